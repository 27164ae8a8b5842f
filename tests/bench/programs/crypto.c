/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libcrypto over a fixed number of bytes. Usage: crypto sha256|aes MEBIBYTES */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned char block[16384], out[16384 + 64];

static void fail(void)
{
    fprintf(stderr, "libcrypto failed\n");
    exit(1);
}

static void sha256(unsigned blocks)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (!context || !EVP_DigestInit_ex(context, EVP_sha256(), NULL)) {
        fail();
    }
    while (blocks--) {
        EVP_DigestUpdate(context, block, sizeof block);
    }
    EVP_DigestFinal_ex(context, out, NULL);
    EVP_MD_CTX_free(context);
}

static void aes(unsigned blocks)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int size;
    if (!context || !EVP_EncryptInit_ex(context, EVP_aes_128_cbc(), NULL, block, block + 16)) {
        fail();
    }
    while (blocks--) {
        EVP_EncryptUpdate(context, out, &size, block, sizeof block);
    }
    EVP_CIPHER_CTX_free(context);
}

int main(int argc, char **argv)
{
    unsigned blocks = (argc > 2 ? atoi(argv[2]) : 1) * 64u;
    for (unsigned i = 0; i < sizeof block; i++) {
        block[i] = i * 7;
    }
    if (argc > 1 && !strcmp(argv[1], "aes")) {
        aes(blocks);
    } else {
        sha256(blocks);
    }
    for (unsigned i = 0; i < 32; i++) {
        printf("%02x", out[i]);
    }
    printf("\n");
    return 0;
}
