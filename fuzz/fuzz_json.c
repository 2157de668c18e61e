/* JSON: strict and lenient reading, what is printed of a value, and writing it again, which must read as the same. */
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "base/memory.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *value, *again;
    char brief[64];
    if (sp_json_parse_lenient((const char *)data, size, "input", &value) == SP_OK) json_decref(value);
    if (sp_json_parse((const char *)data, size, "input", &value) != SP_OK) return 0;
    if (strlen(sp_json_brief(value, brief, sizeof brief)) >= sizeof brief) abort();
    char *text = sp_json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    if (text) {
        if (sp_json_parse(text, strlen(text), "written", &again) != SP_OK || !json_equal(value, again)) abort();
        json_decref(again);
        sp_free(text);
    }
    json_decref(value);
    return 0;
}
