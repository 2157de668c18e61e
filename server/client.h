/* A client of the server's own interface (/v1/jobs): what `splam generate` asks for, drawn by a server. */
#ifndef SERVER_CLIENT_H
#define SERVER_CLIENT_H
#include <splam/splam.h>

typedef struct {
    const char *server;   /* "http://HOST", "https://HOST:PORT", "unix:PATH" */
    const char *ca_file;  /* certificates in PEM that the server's has to be signed by; NULL: those the system trusts */
    const char *key_file; /* whose first key is sent, see sv_settings; NULL: none is */
    void (*say)(const char *text); /* gets the server's warnings; may be NULL */
} sv_client_settings;

enum { SV_CLIENT_ERROR = 2048 };
/* Draws and writes files as splam_generate does. options: `model` is a name that the server has, NULL: its own choice;
 * `loras` have names that it has; init_image is sent. What belongs to a machine or names other files (vae, embeddings,
 * prompts_file, noise, save_latents, precision, memory_limit and others) is SPLAM_ARGUMENT. seed_used is heeded, and of
 * callbacks report and cancelled; a job that is cancelled here is cancelled there. Of a failure `error` has one
 * sentence: SPLAM_IO where there is no such server or no answer, SPLAM_ARGUMENT for what it refuses. */
splam_status sv_client_generate(const sv_client_settings *settings, const splam_generate_options *options,
                                const splam_callbacks *callbacks, char error[SV_CLIENT_ERROR]);

#endif
