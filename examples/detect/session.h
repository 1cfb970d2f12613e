/* A model and a context, opened as the options say. */
#ifndef SESSION_H
#define SESSION_H

#include "options.h"

typedef struct session {
    det_model *model;
    det_model_info info;
    det_context *context;
    det_context_info plan;
} session;

/* Opens --model, or what find_model finds. `flags` are DET_CONTEXT_* bits.
 * Returns EXIT_DONE, or EXIT_MODEL after complaining; close it in either case. */
int session_open(session *opened, const options *given, uint32_t flags);

/* Sets the thresholds of the options, and the classes. Returns EXIT_DONE, EXIT_USAGE or EXIT_MODEL. */
int session_set_thresholds(session *opened, const options *given);

void session_close(session *opened);

#endif
