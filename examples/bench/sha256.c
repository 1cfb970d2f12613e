#include "sha256.h"

#include <stdio.h>
#include <string.h>

enum { BLOCK = 64 };

typedef struct sha256 {
    uint32_t state[8];
    uint8_t block[BLOCK];
    uint64_t n_bytes;
} sha256;

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turn(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}

static void take_block(sha256 *hash, const uint8_t *block) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 |
               block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
    }
    memcpy(s, hash->state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t chosen = (s[4] & s[5]) ^ (~s[4] & s[6]), majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
        uint32_t first = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) + chosen + constants[i] + w[i];
        uint32_t second = (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) + majority;
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += first;
        s[0] = first + second;
    }
    for (int i = 0; i < 8; i++)
        hash->state[i] += s[i];
}

static void begin(sha256 *hash) {
    *hash = (sha256){
        .state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

static void add(sha256 *hash, const uint8_t *data, size_t n_bytes) {
    while (n_bytes > 0) {
        size_t filled = hash->n_bytes % BLOCK, n = BLOCK - filled < n_bytes ? BLOCK - filled : n_bytes;
        memcpy(hash->block + filled, data, n);
        hash->n_bytes += n;
        data += n;
        n_bytes -= n;
        if (hash->n_bytes % BLOCK == 0)
            take_block(hash, hash->block);
    }
}

static void end(sha256 *hash, char text[SHA256_TEXT]) {
    uint64_t n_bits = 8 * hash->n_bytes;
    const uint8_t one = 0x80, zero = 0;
    add(hash, &one, 1);
    while (hash->n_bytes % BLOCK != BLOCK - 8)
        add(hash, &zero, 1);
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(n_bits >> (56 - 8 * i));
    add(hash, length, sizeof length);
    for (int i = 0; i < 8; i++)
        snprintf(text + 8 * i, 9, "%08x", hash->state[i]);
}

void sha256_text(const void *data, size_t n_bytes, char text[SHA256_TEXT]) {
    sha256 hash;
    begin(&hash);
    add(&hash, data, n_bytes);
    end(&hash, text);
}

bool sha256_file(const char *path, char text[SHA256_TEXT], int64_t *n_bytes) {
    sha256 hash;
    uint8_t buffer[16384];
    text[0] = '\0';
    *n_bytes = 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return false;
    begin(&hash);
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, file)) > 0;)
        add(&hash, buffer, n);
    bool ok = !ferror(file);
    fclose(file);
    if (!ok)
        return false;
    *n_bytes = (int64_t)hash.n_bytes;
    end(&hash, text);
    return true;
}
