/* detect-bench merge: the runs of several files in one document. */
#include "merge.h"

#include "document.h"
#include "output.h"
#include "scaling.h"
#include "text.h"

int command_merge(const options *given) {
    json_t *runs = json_array();
    bool ok = true;
    for (int i = 0; ok && i < given->n_files; i++) {
        json_t *document = document_load(given->files[i]);
        ok = document != NULL && json_array_extend(runs, json_object_get(document, "runs")) == 0;
        json_decref(document);
    }
    json_t *document = ok ? document_new(json_incref(runs)) : NULL;
    if (ok && document == NULL)
        complain("out of memory for %d files", given->n_files);
    if (document != NULL) {
        json_object_set_new(document, "scaling", scaling_make(runs));
        ok = output_all(document, given);
    }
    json_decref(document);
    json_decref(runs);
    return ok ? EXIT_DONE : EXIT_FAILED;
}
