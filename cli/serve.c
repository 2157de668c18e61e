/* splam serve */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "options.h"
#include "server/server.h"
#include "verbs.h"

static const char description[] =
    "Holds models in memory and draws for clients over HTTP: A1111's interface (/sdapi/v1), OpenAI's\n"
    "(/v1/images/generations) and one of its own with progress (/v1/jobs), /health, and numbers for\n"
    "Prometheus (/metrics); docs/server.md has all paths. The first picture of a size plans and packs,\n"
    "those that follow take the time of their steps. One picture is drawn at a time; others wait in line.\n"
    "It listens on this machine alone unless it is told another address, and refuses that without keys.\n"
    "Requests name models, LoRAs and learned tokens by the names of their files, without a path; SIGHUP\n"
    "reads the folders of the last two anew, the keys, and the certificate with its key. On SIGTERM or\n"
    "Ctrl-C what is drawn is finished, within --stop-seconds; a second one does not wait.";

static const char *const examples[] = {
    "splam serve -m sd15",
    "splam serve -m student --precision f32 --queue 4",
    "splam serve -m sd15 -m sdxl-turbo.safetensors --lora-dir loras --embedding-dir tokens --memory-limit 12G",
    "splam serve -m sd15 --lora style.safetensors:0.7 --listen '[::1]:8000' --memory-limit 6G",
    "splam serve -m sd15 --listen 0.0.0.0:7860 --api-key-file keys.txt --host pictures.example \\\n"
    "    --tls-cert fullchain.pem --tls-key privkey.pem",
    "splam serve --watch out-splam out-lcm",
    "splam serve -m sd15 --unix /run/splam/socket",
    "curl --unix-socket /run/splam/socket http://localhost/v1/models",
    "curl http://127.0.0.1:7860/v1/images/generations -H 'Content-Type: application/json' \\\n"
    "    -d '{\"prompt\": \"a lighthouse\", \"size\": \"512x512\"}'",
    NULL,
};

typedef struct {
    int64_t stop_seconds, deadline;
    option_texts models, hosts, watched;
} own_flags;

static sigset_t own_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    return set;
}

static void print_line(const char *line)
{
    fprintf(stderr, "%s\n", line);
}

/* Signals are blocked: one that came while the model is opened waits. */
static bool asked_to_stop(void *context)
{
    sigset_t pending;
    (void)context;
    sigpending(&pending);
    return sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1;
}

/* Until nobody waits for an answer, the time is over, or another signal comes. */
static void finish(sv_server *server, const sigset_t *signals, int64_t seconds)
{
    const struct timespec tick = {.tv_nsec = 50000000};
    struct timespec now, began;
    clock_gettime(CLOCK_MONOTONIC, &began);
    do {
        int number = sigtimedwait(signals, NULL, &tick);
        if (number > 0 && number != SIGHUP) return;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (sv_server_is_busy(server) && now.tv_sec - began.tv_sec < seconds);
}

static int run(sv_settings *settings, const own_flags *own)
{
    char error[SV_ERROR], message[2 * SV_ERROR];
    const sigset_t signals = own_signals();
    sv_server *server;
    int number;
    settings->models = own->models.item;
    settings->model_count = own->models.count;
    settings->watched = own->watched.item;
    settings->watched_count = own->watched.count;
    settings->hosts = own->hosts.item;
    settings->host_count = own->hosts.count;
    settings->deadline_seconds = (double)own->deadline;
    settings->log = print_line;
    settings->opening.cancelled = asked_to_stop;
    splam_status status = sv_server_start(settings, &server, error);
    if (status) {
        options_translate(error, message, sizeof message);
        return cli_fail(status == SPLAM_ARGUMENT    ? CLI_USAGE
                        : status == SPLAM_CANCELLED ? CLI_INTERRUPTED
                                                    : CLI_FAILURE,
                        "%s", message);
    }
    fprintf(stderr, "listening at %s\n", sv_server_url(server));
    sv_notify("READY=1");
    while (sigwait(&signals, &number) == 0 && number == SIGHUP)
        sv_server_reload(server);
    fprintf(stderr, "stopping\n");
    sv_notify("STOPPING=1");
    sv_server_close(server);
    finish(server, &signals, own->stop_seconds);
    sv_server_free(server);
    return CLI_OK;
}

int cli_serve(int argc, char **argv)
{
    const sigset_t signals = own_signals();
    sigprocmask(SIG_BLOCK, &signals, NULL); /* at once, for an early SIGHUP; of all threads that follow, too */
    sv_settings settings = sv_settings_defaults();
    own_flags own = {.stop_seconds = 30};
    /* clang-format off */
    const option flags[] = {
        {.name = "model", .heading = "Models", .letter = 'm', .kind = OPTION_TEXTS, .value = &own.models,
         .argument = "MODEL...",
         .help = "diffusers folders, or .safetensors or .ckpt files; requests name them by the last parts of their "
                 "paths, and those that name none get the first"},
        {.name = "lora-dir", .needs = "model", .kind = OPTION_TEXT, .value = &settings.lora_folder, .argument = "DIR",
         .help = "a folder with LoRAs, *.safetensors, that requests may ask for by the file's name without its suffix"},
        {.name = "embedding-dir", .needs = "model", .kind = OPTION_TEXT, .value = &settings.embedding_folder,
         .argument = "DIR",
         .help = "a folder with learned tokens (textual inversion), *.safetensors, *.pt and *.bin, for prompts"},
        {.name = "output-dir", .needs = "model", .kind = OPTION_TEXT, .value = &settings.output_folder,
         .argument = "DIR",
         .help = "a folder for pictures that requests ask to be saved, in a folder of each day"},
        {.name = "watch", .heading = "Distillations", .kind = OPTION_TEXTS, .value = &own.watched,
         .argument = "OUTPUT...",
         .help = "output folders of splam distill, which /watch shows while they are written: losses, speed, time "
                 "left, validation sheets, two over one another; without -m nothing is drawn"},
        {.name = "listen", .heading = "Where it listens", .kind = OPTION_TEXT, .value = &settings.listen,
         .argument = "ADDRESS:PORT",
         .help = "where, in numbers; port 0 is any free one", .fallback = "systemd's socket, else 127.0.0.1:7860"},
        {.name = "unix", .kind = OPTION_TEXT, .value = &settings.unix_path, .argument = "PATH",
         .help = "listen at a socket of Unix instead, whose file whoever may write to it may draw with"},
        {.name = "tls-cert", .kind = OPTION_TEXT, .value = &settings.certificate, .argument = "FILE",
         .help = "a certificate in PEM, with those that it is signed by: clients speak TLS"},
        {.name = "tls-key", .kind = OPTION_TEXT, .value = &settings.certificate_key, .argument = "FILE",
         .help = "the certificate's key, in PEM"},
        {.name = "host", .kind = OPTION_TEXTS, .value = &own.hosts, .argument = "NAME...",
         .help = "what clients call this server beside localhost and addresses; requests for other names are refused"},
        {.name = "api-key-file", .heading = "Who may draw", .kind = OPTION_TEXT, .value = &settings.key_file,
         .argument = "FILE",
         .help = "keys, one a line, of which clients have to give one; without it none is asked for"},
        {.name = "no-key", .kind = OPTION_FLAG, .value = &settings.no_key,
         .help = "let anyone draw who reaches an address that others than this machine reach"},
        {.name = "queue", .needs = "model", .heading = "Requests", .kind = OPTION_INTEGER, .value = &settings.queue,
         .argument = "N", .low = 1, .high = 1000,
         .help = "requests that may wait, beside the one that is drawn; more are refused", .fallback = "16"},
        {.name = "queue-share", .needs = "model", .kind = OPTION_INTEGER, .value = &settings.queue_share,
         .argument = "N", .low = 1,
         .high = 1000, .help = "requests of one client that may wait", .fallback = "three quarters of --queue"},
        {.name = "deadline", .needs = "model", .kind = OPTION_INTEGER, .value = &own.deadline,
         .argument = "SECONDS", .low = 1,
         .high = 86400,
         .help = "how long a request may take, waiting included; then it is ended, and answered with 504"},
        {.name = "memory-limit", .heading = "Computing", .needs = "model", .kind = OPTION_BYTES,
         .value = &settings.memory_limit, .argument = "SIZE",
         .help = "close models that were used longest ago, then draw with less memory where possible, refuse where "
                 "not: 3G is 3 * 10^9 bytes, 3Gi 3 * 2^30"},
        {.name = "stop-seconds", .heading = "Requests", .kind = OPTION_INTEGER, .value = &own.stop_seconds,
         .argument = "N", .low = 0,
         .high = 86400, .help = "how long what is drawn may go on after SIGTERM", .fallback = "30"},
        {.name = "log-prompts", .needs = "model", .kind = OPTION_FLAG, .value = &settings.log_prompts,
         .help = "log what clients ask for; without it no prompt is logged"},
    };
    /* clang-format on */
    const command c = {
        .verb = "serve",
        .computes = true,
        .unconfined = true,
        .synopsis = "-m MODEL... | --watch OUTPUT... [options]",
        .description = description,
        .table = "model",
        .table_needs = "model",
        .target = &settings.model_options,
        .options = flags,
        .option_count = OPTION_COUNT(flags),
        .examples = examples,
    };
    options_result result = options_parse(&c, argc, argv, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    return run(&settings, &own);
}
