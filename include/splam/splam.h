/* libsplam: few-step generators from Stable-Diffusion-family models; the whole public interface. */
#ifndef SPLAM_H
#define SPLAM_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SPLAM_API __attribute__((visibility("default")))
#else
#define SPLAM_API
#endif

/* The library's version, such as "0.1.0"; a constant. */
SPLAM_API const char *splam_version(void);

/* The sentence about the last failure on this thread: the file, tensor or setting, what was found and what was
 * expected. Never NULL; valid until the next failure on this thread. */
SPLAM_API const char *splam_error_message(void);

#ifdef __cplusplus
}
#endif
#endif
