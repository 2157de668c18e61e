/* Names of the tensors of LoRA files: which layer's, which part. Within src/checkpoints. */
#ifndef SP_CHECKPOINTS_LORA_NAMES_H
#define SP_CHECKPOINTS_LORA_NAMES_H
#include "checkpoints/component.h"

enum { SP_LORA_MAX_NAME = 512 };
/* (part, its name in kohya's files); what adapters of each kind make of them: lora_parts.h */
#define SP_LORA_PART_LIST(X)                                                                                          \
    X(DOWN, "lora_down") X(UP, "lora_up") X(MID, "lora_mid")                                                          \
    X(HADA_W1_A, "hada_w1_a") X(HADA_W1_B, "hada_w1_b") X(HADA_W2_A, "hada_w2_a") X(HADA_W2_B, "hada_w2_b")           \
    X(HADA_T1, "hada_t1") X(HADA_T2, "hada_t2")                                                                       \
    X(LOKR_W1, "lokr_w1") X(LOKR_W1_A, "lokr_w1_a") X(LOKR_W1_B, "lokr_w1_b")                                         \
    X(LOKR_W2, "lokr_w2") X(LOKR_W2_A, "lokr_w2_a") X(LOKR_W2_B, "lokr_w2_b") X(LOKR_T2, "lokr_t2")                   \
    X(DIFF, "diff") X(DIFF_B, "diff_b")                                                                               \
    X(DORA_SCALE, "dora_scale") X(MAGNITUDE, "lora_magnitude_vector")                                                 \
    X(ALPHA, "alpha")
typedef enum {
#define X(part, name) SP_LORA_##part,
    SP_LORA_PART_LIST(X)
#undef X
        SP_LORA_PARTS
} sp_lora_part;
const char *sp_lora_part_name(int part);

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
