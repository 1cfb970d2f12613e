/* Complete model files with pseudo-random weights, for tests that need a network and not its talent.
 *
 * No list of tensors stands here: the library is asked. A file without tensors is opened, det_context_create says which
 * are missing or what shape they should have, and so on until it is content. */
#ifndef DET_TEST_MAKE_MODEL_H
#define DET_TEST_MAKE_MODEL_H

#include "model_file.h"

/* The names of the models there are; NULL at the end. Those called tiny have the whole graph of their family at a width of a few
 * channels, and three classes: files of some tens of kilobytes. */
const char *make_model_name(int index);

/* `metadata`: replaces the model's own description; or NULL. Native input 64 x 64. The weights
 * follow from `name` and the tensors' names. Ends the test when something fails. */
bytes make_model(const char *name, const char *metadata);

/* The description that make_model writes; the caller frees. */
text make_metadata(const char *name);

#endif
