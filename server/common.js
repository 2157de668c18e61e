// What the pages share: elements, speaking with the server, light and dark.
const $ = id => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), attributes);
    element.append(...children);
    return element;
};

const KEY = "splam-key";

function headers(extra = {}) {
    const key = sessionStorage.getItem(KEY);
    return key ? {...extra, Authorization: "Bearer " + key} : extra;
}

function keyDialog() {
    const field = make("input", {id: "key", type: "password", autocomplete: "current-password"});
    const form = make("form", {method: "dialog"}, make("h2", {textContent: "This server asks for a key"}),
        make("div", {}, make("label", {textContent: "Key", htmlFor: "key"}), field),
        make("div", {className: "buttons"}, make("button", {className: "main", value: "yes", textContent: "Go on"})));
    $("key-dialog")?.remove();
    document.body.append(make("dialog", {id: "key-dialog", ariaLabel: "This server asks for a key"}, form));
    return $("key-dialog");
}

function askKey() {
    return new Promise(resolve => {
        const dialog = keyDialog();
        dialog.addEventListener("close", () => {
            sessionStorage.setItem(KEY, $("key").value.trim());
            resolve();
        }, {once: true});
        dialog.showModal();
    });
}

// Answers with the response; another than 2xx is an Error with the server's sentence.
async function call(path, body, method) {
    for (;;) {
        const response = await fetch(path, {
            method: method || (body ? "POST" : "GET"),
            headers: headers(body ? {"Content-Type": "application/json"} : {}),
            body: body && JSON.stringify(body),
        });
        if (response.status === 401) {
            await askKey();
            continue;
        }
        if (response.ok) return response;
        const text = await response.text();
        let said = null;
        try {
            said = JSON.parse(text);
        } catch { /* it is no JSON, and is shown as it is */ }
        const error = new Error(said?.error?.message || said?.detail || text || response.statusText);
        error.after = Number(response.headers.get("Retry-After"));
        throw error;
    }
}
const get = async path => (await call(path)).json();

function showError(error) {
    const again = error.after > 0 ? ` (again in ${error.after} s)` : "";
    $("error").textContent = error.message + again;
    $("error").hidden = false;
}

function setTheme(theme) {
    if (theme) document.documentElement.dataset.theme = theme;
    localStorage.setItem("splam-theme", theme || "");
}

function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

$("theme").onclick = () => setTheme(isDark() ? "light" : "dark");
if (["light", "dark"].includes(localStorage.getItem("splam-theme"))) setTheme(localStorage.getItem("splam-theme"));
