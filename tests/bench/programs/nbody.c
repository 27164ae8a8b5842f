/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bodies that attract each other, in double precision; vectors if the compiler likes. Usage: nbody
 * STEPS */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define BODIES 32

static double x[BODIES], y[BODIES], z[BODIES], vx[BODIES], vy[BODIES], vz[BODIES], mass[BODIES];

static void accelerate(int i, double dt)
{
    double ax = 0, ay = 0, az = 0;
    for (int j = 0; j < BODIES; j++) {
        double dx = x[j] - x[i], dy = y[j] - y[i], dz = z[j] - z[i];
        double square = dx * dx + dy * dy + dz * dz + 0.01;
        double pull = mass[j] / (square * sqrt(square));
        ax += dx * pull;
        ay += dy * pull;
        az += dz * pull;
    }
    vx[i] += ax * dt;
    vy[i] += ay * dt;
    vz[i] += az * dt;
}

static void step(double dt)
{
    for (int i = 0; i < BODIES; i++) {
        accelerate(i, dt);
    }
    for (int i = 0; i < BODIES; i++) {
        x[i] += dt * vx[i];
        y[i] += dt * vy[i];
        z[i] += dt * vz[i];
    }
}

int main(int argc, char **argv)
{
    int steps = argc > 1 ? atoi(argv[1]) : 1000;
    for (int i = 0; i < BODIES; i++) {
        x[i] = i * 1.5;
        y[i] = i * 7 % 5 - 2.0;
        z[i] = i * 3 % 4 * 0.7;
        mass[i] = 1.0 / (1 + i);
    }
    for (int i = 0; i < steps; i++) {
        step(0.001);
    }
    for (int i = 0; i < BODIES; i++) {
        printf("%.9f %.9f %.9f\n", x[i], y[i], z[i]);
    }
    return 0;
}
