/* A driver of NVIDIA's that is none: the functions of libnvidia-ml.so.1 which a board is asked with.
 *
 *     gcc -shared -fPIC -nostdlib -o libnvidia-ml.so.1 fake_nvml.c       no header and no library is needed
 *
 * The environment says how it is: <function>=CODE makes a function fail with that code; BOARDS (1), REASONS (bits, 0),
 * OTHERS (processes, 0), STEP (millijoules from one reading of the counter to the next, 1500), MILLIWATTS (250000).
 * Every board draws the same; board 0 is GPU-fa4e0000-... at 00000000:0F:00.0, and so on. */

extern char *getenv(const char *);
extern int atoi(const char *);
extern int getpid(void);
extern int strcmp(const char *, const char *);
extern char *strncpy(char *, const char *, unsigned long);

typedef unsigned int uint;
typedef unsigned long long counter;
typedef struct { counter total, free, used; } memory;
typedef struct { uint pid; counter used; uint gpu_instance, compute_instance; } process;

enum { INVALID = 2, SMALL = 7, MOST = 4 };

static int boards[MOST];
static const char *uuids[MOST] = {
    "GPU-fa4e0000-0000-0000-0000-000000000000", "GPU-fa4e0001-0000-0000-0000-000000000001",
    "GPU-fa4e0002-0000-0000-0000-000000000002", "GPU-fa4e0003-0000-0000-0000-000000000003"};
static const char *addresses[MOST] = {"00000000:0F:00.0", "00000000:1F:00.0", "00000000:2F:00.0", "00000000:3F:00.0"};
static counter used[MOST];

static int number(const char *name, int otherwise) {
    const char *found = getenv(name);
    return found ? atoi(found) : otherwise;
}

#define FAILS_IF_TOLD do { int code = number(__func__, 0); if (code) return code; } while (0)

static int by_name(const char **names, const char *name, int **board) {
    for (int i = 0; i < number("BOARDS", 1); i++)
        if (!strcmp(names[i], name)) { *board = &boards[i]; return 0; }
    return 6; /* not found */
}

const char *nvmlErrorString(int code) { return code == 4 ? "Insufficient Permissions" : "Something\nis wrong."; }
int nvmlInitWithFlags(uint flags) { FAILS_IF_TOLD; return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *to, uint size) { FAILS_IF_TOLD; strncpy(to, "580.159.04", size); return 0; }
int nvmlSystemGetCudaDriverVersion(int *to) { FAILS_IF_TOLD; *to = 13020; return 0; }

int nvmlDeviceGetHandleByIndex_v2(uint index, int **board) {
    FAILS_IF_TOLD;
    if ((int)index >= number("BOARDS", 1)) return INVALID;
    *board = &boards[index];
    return 0;
}
int nvmlDeviceGetHandleByUUID(const char *name, int **board) { FAILS_IF_TOLD; return by_name(uuids, name, board); }
int nvmlDeviceGetHandleByPciBusId_v2(const char *name, int **board) {
    FAILS_IF_TOLD;
    return by_name(addresses, name, board);
}

int nvmlDeviceGetName(int *board, char *to, uint size) {
    FAILS_IF_TOLD;
    strncpy(to, board == boards ? "NVIDIA H200" : "NVIDIA H100 80GB HBM3", size);
    return 0;
}
int nvmlDeviceGetMemoryInfo(int *board, memory *to) {
    FAILS_IF_TOLD;
    to->total = 150754820096ull;
    to->free = to->used = to->total / 2;
    return 0;
}
int nvmlDeviceGetEnforcedPowerLimit(int *board, uint *to) { FAILS_IF_TOLD; *to = 700000; return 0; }
int nvmlDeviceGetMaxClockInfo(int *board, uint kind, uint *to) { FAILS_IF_TOLD; *to = kind == 1 ? 1980 : 3201; return 0; }
int nvmlDeviceGetClockInfo(int *board, uint kind, uint *to) { FAILS_IF_TOLD; *to = kind == 1 ? 1755 : 3201; return 0; }
int nvmlDeviceGetTemperature(int *board, uint kind, uint *to) { FAILS_IF_TOLD; *to = 61; return 0; }
int nvmlDeviceGetCurrentClocksEventReasons(int *board, counter *to) { FAILS_IF_TOLD; *to = number("REASONS", 0); return 0; }
int nvmlDeviceGetCurrentClocksThrottleReasons(int *board, counter *to) { FAILS_IF_TOLD; *to = number("REASONS", 0); return 0; }
int nvmlDeviceGetEccMode(int *board, uint *to, uint *next) { FAILS_IF_TOLD; *to = *next = 1; return 0; }
int nvmlDeviceGetMigMode(int *board, uint *to, uint *next) { FAILS_IF_TOLD; *to = *next = 0; return 0; }
int nvmlDeviceGetPersistenceMode(int *board, uint *to) { FAILS_IF_TOLD; *to = 1; return 0; }
int nvmlDeviceGetPowerUsage(int *board, uint *to) { FAILS_IF_TOLD; *to = number("MILLIWATTS", 250000); return 0; }

int nvmlDeviceGetTotalEnergyConsumption(int *board, counter *to) {
    FAILS_IF_TOLD;
    *to = used[board - boards] += number("STEP", 1500);
    return 0;
}

/* This process itself, and the others. */
int nvmlDeviceGetComputeRunningProcesses_v3(int *board, uint *count, process *to) {
    FAILS_IF_TOLD;
    uint all = 1 + number("OTHERS", 0), room = *count;
    *count = all;
    if (room < all) return SMALL;
    for (uint i = 0; i < all; i++) to[i] = (process){i ? 1000000000 + i : (uint)getpid(), 1 << 20, -1, -1};
    return 0;
}
