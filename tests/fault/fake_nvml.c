/* fake_nvml.c — a library with NVML's face whose card has the temperatures of FAKE_NVML_DEGREES
 * ("70,92,79"): one a look, the last one for ever. For tests of what heat does to a run.
 */
#include <stdlib.h>
#include <string.h>

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *degrees);

static int card;
static int looks;

int nvmlInit_v2(void)
{
    looks = 0;
    return getenv("FAKE_NVML_DEGREES") == NULL;
}

int nvmlShutdown(void)
{
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
    *device = &card;
    return index != 0;
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *degrees)
{
    const char *at = getenv("FAKE_NVML_DEGREES");
    for (int i = 0; i < looks && strchr(at, ',') != NULL; i++)
        at = strchr(at, ',') + 1;
    looks++;
    *degrees = (unsigned)strtoul(at, NULL, 10);
    return device != &card || sensor != 0;
}
