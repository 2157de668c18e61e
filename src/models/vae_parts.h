/* What each kind of autoencoder provides; see vae.h for what the functions do. Within src/models. */
#ifndef SP_MODELS_VAE_PARTS_H
#define SP_MODELS_VAE_PARTS_H
#include "models/vae.h"

/* read: *out is zeroed before and has its kind. encode, decode: shapes of the inputs are checked. */
#define X(name, lower, class_name)                                                                 \
    sp_status sp_vae_##lower##_read(const json_t *config, const char *where, sp_vae_config *out);  \
    json_t *sp_vae_##lower##_write(const sp_vae_config *config);                                   \
    sp_vae_moments sp_vae_##lower##_encode(sp_builder *b, const sp_vae_config *c,                  \
                                           sp_value *image);                                       \
    sp_value *sp_vae_##lower##_decode(sp_builder *b, const sp_vae_config *c, sp_value *latent);
SP_VAE_LIST(X)
#undef X

#endif
