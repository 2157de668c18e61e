/* Names of the tensors of LoRA files: which layer's, which part. Within src/models. */
#ifndef SP_CHECKPOINTS_LORA_NAMES_H
#define SP_CHECKPOINTS_LORA_NAMES_H
#include "checkpoints/component.h"

enum { SP_LORA_MAX_NAME = 512 };
typedef enum { SP_LORA_DOWN, SP_LORA_UP, SP_LORA_ALPHA } sp_lora_part;

typedef struct {
    sp_component_kind kind;
    sp_lora_part part;
    size_t base;                  /* bytes of the name without its end, the same for all parts of an adapter */
    size_t module;                /* where behind the prefixes the module's own name begins */
    bool peft;                    /* has PEFT's prefix: the file's alpha is in adapter_config.json */
    char layer[SP_LORA_MAX_NAME]; /* as diffusers or an original checkpoint has it, "_" for "." */
} sp_lora_name;

/* The namings that checkpoints/lora.h lists. False if the name is of none of them. */
bool sp_lora_name_parse(const char *name, sp_lora_name *out);

/* The failure that such a name in the file `path` is: SP_UNSUPPORTED for what is known and not a plain LoRA. */
sp_status sp_lora_name_refuse(const char *path, const char *name);
/* What a layer that a model does not have is a sign of ("Stable Diffusion XL"); NULL if nothing. */
const char *sp_lora_layer_family(const char *layer);

#endif
