/* Average precision, drift, labels, inputs, hashes: cases with known answers.
 *
 * With the argument `ap` it is a calculator for test_average_precision.py: lines `L picture class x1 y1 x2 y2` and
 * `D picture class score x1 y1 x2 y2` in, AP and AP50 out. */
#include "accuracy.h"
#include "check.h"
#include "labels.h"
#include "sha256.h"

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

const char program_name[] = "accuracy_test";

static bool close_to(double value, double expected) {
    return fabs(value - expected) < 1e-9;
}

/* --------------------------------------------------------------------------------------------- average precision */

static ap_box square(int32_t picture, int32_t class_id, double score, double at, double side) {
    return (ap_box){.picture = picture, .class_id = class_id, .score = score, .x1 = at, .y1 = at, .x2 = at + side,
                    .y2 = at + side};
}

static void check_ap(const ap_box *labels, size_t n_labels, const ap_box *found, size_t n_found, double ap, double ap50) {
    ap_boxes l = {0}, d = {0};
    for (size_t i = 0; i < n_labels; i++)
        CHECK(ap_add(&l, labels[i]));
    for (size_t i = 0; i < n_found; i++)
        CHECK(ap_add(&d, found[i]));
    double got, got50;
    CHECK(average_precision(&l, &d, &got, &got50));
    CHECK_MSG(close_to(got, ap) && close_to(got50, ap50), "AP %g, AP50 %g; expected %g, %g", got, got50, ap, ap50);
    ap_free(&l);
    ap_free(&d);
}

static void test_average_precision(void) {
    const ap_box labels[] = {square(0, 1, 0, 10, 20), square(1, 1, 0, 10, 20)};
    const ap_box right[] = {square(0, 1, 0.9, 10, 20), square(1, 1, 0.8, 10, 20)};
    check_ap(labels, 2, right, 2, 1, 1);
    check_ap(labels, 2, right, 1, 51 / 101.0, 51 / 101.0); /* recalls 0 to 0.5 of 101 */
    check_ap(labels, 2, NULL, 0, 0, 0);
    const ap_box other_class[] = {square(0, 0, 0.9, 10, 20), square(1, 2, 0.8, 10, 20)};
    check_ap(labels, 2, other_class, 2, 0, 0);
    const ap_box with_miss[] = {square(0, 1, 0.95, 60, 20), square(0, 1, 0.9, 10, 20), square(1, 1, 0.8, 10, 20)};
    check_ap(labels, 2, with_miss, 3, 2 / 3.0, 2 / 3.0); /* the best precision at any recall is 2 of 3 */
    const ap_box twice[] = {square(0, 1, 0.9, 10, 20), square(0, 1, 0.85, 10, 20), square(1, 1, 0.8, 10, 20)};
    check_ap(labels, 2, twice, 3, (51 + 50 * 2 / 3.0) / 101, (51 + 50 * 2 / 3.0) / 101); /* the second one is wrong */
    const ap_box wider[] = {square(0, 1, 0.9, 10, 20), square(1, 1, 0.8, 10, 24)}; /* IoU 400 / 576 = 0.69 */
    check_ap(labels, 2, wider, 2, (4 * 1.0 + 6 * 51 / 101.0) / 10, 1);
    ap_boxes none = {0};
    double ap, ap50;
    CHECK(average_precision(&none, &none, &ap, &ap50) && isnan(ap) && isnan(ap50));
}

static int calculate(void) {
    char line[512], kind;
    ap_boxes labels = {0}, found = {0};
    while (fgets(line, sizeof line, stdin) != NULL) {
        ap_box b = {0};
        if (sscanf(line, "D %d %d %lf %lf %lf %lf %lf", &b.picture, &b.class_id, &b.score, &b.x1, &b.y1, &b.x2, &b.y2) == 7)
            REQUIRE(ap_add(&found, b), "no memory");
        else if (sscanf(line, "%c %d %d %lf %lf %lf %lf", &kind, &b.picture, &b.class_id, &b.x1, &b.y1, &b.x2, &b.y2) == 7)
            REQUIRE(ap_add(&labels, b), "no memory");
        else
            REQUIRE(false, "%s", line);
    }
    double ap, ap50;
    REQUIRE(average_precision(&labels, &found, &ap, &ap50), "no memory");
    printf("%.12f %.12f\n", ap, ap50);
    ap_free(&labels);
    ap_free(&found);
    return 0;
}

/* --------------------------------------------------------------------------------------------------------- drift */

static det_object object(int32_t class_id, float score, float at, float side) {
    return (det_object){.x1 = at, .y1 = at, .x2 = at + side, .y2 = at + side, .score = score, .class_id = class_id};
}

static void test_drift(void) {
    const det_object reference[] = {object(0, 0.9f, 10, 20), object(1, 0.8f, 50, 20), object(0, 0.7f, 90, 20)};
    accuracy found = {0};
    accuracy_drift(reference, 3, reference, 3, &found);
    CHECK(found.has_drift && found.n_reference == 3 && found.n_matched == 3 && found.n_surplus == 0);
    CHECK(found.box_max == 0 && found.box_mean == 0 && found.score_max == 0);
    /* one moved by 1, one of another class, one gone, one new */
    const det_object moved[] = {object(0, 0.85f, 11, 20), object(2, 0.8f, 50, 20), object(0, 0.6f, 200, 20)};
    found = (accuracy){0};
    accuracy_drift(reference, 3, moved, 3, &found);
    CHECK(found.n_reference == 3 && found.n_matched == 1 && found.n_surplus == 2);
    CHECK(found.box_max == 1 && found.box_mean == 1 && fabs(found.score_max - 0.05) < 1e-6);
    accuracy_drift(reference, 1, reference, 1, &found); /* another picture: figures add up */
    CHECK(found.n_reference == 4 && found.n_matched == 2 && found.box_mean == 0.5 && found.box_max == 1);
    accuracy_drift(NULL, 0, NULL, 0, &found);
    CHECK(found.n_reference == 4 && found.n_surplus == 2);
}

/* -------------------------------------------------------------------------------------------------------- labels */

static bool read_labels(const char *text, ap_boxes *list) {
    mkdir("accuracy_test.labels", 0777);
    FILE *file = fopen("accuracy_test.labels/a.txt", "w");
    REQUIRE(file != NULL, "accuracy_test.labels");
    fputs(text, file);
    fclose(file);
    return labels_read("accuracy_test.labels", "pictures/", "pictures/a.jpg", 5, 200, 100, 3, list);
}

static void test_labels(void) {
    ap_boxes list = {0};
    CHECK(read_labels("2 0.5 0.5 0.1 0.2\n\n0 0.25 0.5 0.5 1\n", &list));
    REQUIRE(list.n == 2, "%zu", list.n);
    const ap_box *b = &list.boxes[0];
    CHECK(b->picture == 5 && b->class_id == 2 && close_to(b->x1, 90) && close_to(b->x2, 110) && close_to(b->y1, 40) &&
          close_to(b->y2, 60));
    CHECK(labels_read("accuracy_test.labels", "pictures", "pictures/none.jpg", 0, 200, 100, 3, &list) && list.n == 2);
    static const char *const wrong[] = {"3 0.5 0.5 0.1 0.2\n", "0 0.5 0.5 0.1\n", "0 0.5 0.5 0.1 1.2\n", "x\n",
                                        "0 0.5 0.5 0.1 0.2 7\n", "0.5 0.5 0.5 0.1 0.2\n", "0 nan 0.5 0.1 0.2\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK_MSG(!read_labels(wrong[i], &list), "%s", wrong[i]);
    CHECK(list.n == 2);
    ap_free(&list);
}

/* -------------------------------------------------------------------------------------------------------- inputs */

static void test_inputs(void) {
    uint8_t a[100], b[100], c[100];
    inputs_fill_noise(a, sizeof a, 7);
    inputs_fill_noise(b, sizeof b, 7);
    inputs_fill_noise(c, sizeof c, 8);
    CHECK(!memcmp(a, b, sizeof a) && memcmp(a, c, sizeof a) != 0);
    options given = {.picture_width = 40, .picture_height = 30, .pictures = 3};
    inputs in, chosen;
    REQUIRE(inputs_open(&in, &given) == EXIT_DONE, "noise");
    CHECK(in.noise && in.n == 3 && in.views[0].width == 40 && in.views[0].strides[0] == 120);
    for (int64_t number = 0; number < 10; number++) /* any batch is a piece of the round */
        for (int i = 0; i < 5; i++)
            CHECK(inputs_batch(&in, number, 5)[i].planes[0] == in.pictures[(5 * number + i) % 3].pixels);
    CHECK(inputs_with_detections(&in, &chosen) && chosen.n == 3);
    free(chosen.views);
    in.detections[1] = 4;
    in.n_with_detections = 1;
    CHECK(inputs_with_detections(&in, &chosen) && chosen.n == 1);
    for (int i = 0; i < 5; i++)
        CHECK(inputs_batch(&chosen, 3, 5)[i].planes[0] == in.pictures[1].pixels);
    free(chosen.views);
    inputs_free(&in);
}

static void test_sha256(void) {
    char text[SHA256_TEXT];
    int64_t n_bytes;
    sha256_text("", 0, text);
    CHECK(!strcmp(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    sha256_text("abc", 3, text);
    CHECK(!strcmp(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    const char *longer = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    sha256_text(longer, strlen(longer), text);
    CHECK(!strcmp(text, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"));
    char *million = malloc(1000000);
    REQUIRE(million != NULL, "no memory");
    memset(million, 'a', 1000000);
    sha256_text(million, 1000000, text);
    CHECK(!strcmp(text, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"));
    free(million);
    CHECK(!sha256_file("no such file", text, &n_bytes) && text[0] == '\0');
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "ap"))
        return calculate();
    test_average_precision();
    test_drift();
    test_labels();
    test_inputs();
    test_sha256();
    return check_report("bench accuracy");
}
