/* Configurations: config.json of every component, scheduler_config.json, model_index.json. The input is one of them,
 * given to all readers. What is read of a component is written and read again; a network of it is made where it has few
 * layers: what a large one costs is a question of limits. */
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "checkpoints/component.h"
#include "checkpoints/model_folder.h"
#include "diffusion/sampler.h"
#include "diffusion/scheduler_config.h"
#include "models/t5_text.h"
#include "fuzz/fuzz.h"

static void read_again(sp_component_kind kind, const sp_component_config *config)
{
    sp_component_config again;
    json_t *json = sp_component_config_write(config);
    if (json && sp_component_config_read(kind, json, "written", &again) != SP_OK) abort();
    json_decref(json);
}

static void make_network(const sp_component_config *config)
{
    sp_graph *graph;
    if (sp_component_graph(config, &graph) == SP_OK) sp_graph_destroy(graph);
}

static void read_scheduler(const json_t *json)
{
    static const sp_sampler_kind kinds[] = {SP_SAMPLER_DDIM, SP_SAMPLER_LCM, SP_SAMPLER_DPMPP_2M, SP_SAMPLER_UNIPC,
                                            SP_SAMPLER_EULER, SP_SAMPLER_HEUN, SP_SAMPLER_TCD};
    sp_scheduler_config config;
    if (sp_scheduler_config_read(json, "input", &config) != SP_OK) return;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const sp_sampler_options options = {.kind = kinds[i], .steps = 3};
        sp_sampler sampler;
        if (sp_sampler_create(&config, &options, &sampler) == SP_OK) sp_sampler_free(&sampler);
    }
}

static void read_index(const uint8_t *data, size_t size)
{
    sp_model_folder folder;
    fuzz_write("model_index.json", data, size);
    if (sp_model_folder_open(fuzz_folder(NULL, 0, (const char *const[]){NULL}), &folder) != SP_OK) return;
    bool zero;
    (void)sp_model_folder_zero_negative(&folder, &zero);
    sp_model_folder_close(&folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *json;
    if (sp_json_parse_lenient((const char *)data, size, "input", &json) != SP_OK) return 0;
    for (int kind = 0; kind < SP_COMPONENT_COUNT; kind++) {
        sp_component_config config;
        if (sp_component_config_read((sp_component_kind)kind, json, "input", &config) != SP_OK) continue;
        read_again((sp_component_kind)kind, &config);
        if (size < 2048) make_network(&config);
    }
    sp_t5_config t5;
    (void)sp_t5_config_read(json, "input", &t5);
    read_scheduler(json);
    read_index(data, size);
    json_decref(json);
    return 0;
}
