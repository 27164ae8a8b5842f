/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Products of square matrices of floats. Usage: matmul TIMES */
#include <stdio.h>
#include <stdlib.h>

#define N 256

static float a[N][N], b[N][N], c[N][N];

static void multiply(void)
{
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < N; k++) {
            float x = a[i][k];
            for (int j = 0; j < N; j++) {
                c[i][j] += x * b[k][j];
            }
        }
    }
}

int main(int argc, char **argv)
{
    int times = argc > 1 ? atoi(argv[1]) : 1;
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            a[i][j] = (i * 31 + j * 17) % 13 - 6;
            b[i][j] = (i * 7 + j * 29) % 11 - 5;
        }
    }
    for (int t = 0; t < times; t++) {
        multiply();
    }
    double sum = 0;
    for (int i = 0; i < N; i++) {
        sum += c[i][(i * 5) % N];
    }
    printf("%.3f\n", sum);
    return 0;
}
