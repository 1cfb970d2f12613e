/* make_model NAME OUT: writes a model file with pseudo-random weights. Without arguments: lists the names. */
#include "make_model.h"

#include "check.h"

int main(int argc, char **argv) {
    if (argc != 3) {
        for (int i = 0; make_model_name(i); i++)
            puts(make_model_name(i));
        return argc == 1 ? 0 : 2;
    }
    bytes file = make_model(argv[1], NULL);
    bytes_save(&file, argv[2]);
    bytes_free(&file);
    return 0;
}
