/* test_threads.c - the CPU limits of containers, in both versions of control groups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/threads.h"

static char root[] = "/tmp/phi3-threads-XXXXXX";

static int make_root(void **state)
{
    (void)state;
    char path[64];
    if (mkdtemp(root) == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/cpu", root);
    return mkdir(path, 0700);
}

static int remove_root(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "%s/cpu", root);
    return rmdir(path) != 0 || rmdir(root) != 0;
}

static void put(const char *name, const char *text)
{
    char path[96];
    snprintf(path, sizeof path, "%s/%s", root, name);
    if (text == NULL) {
        unlink(path);
        return;
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_version_2(void **state)
{
    (void)state;
    const struct {
        const char *text;
        int cpus;
    } cases[] = {{"max 100000\n", 0},
                 {"200000 100000\n", 2},
                 {"150000 100000\n", 2},
                 {"50000 100000\n", 1},
                 {"", 0},
                 {"200000\n", 0},
                 {"200000 0\n", 0},
                 {"-1 100000\n", 0},
                 {"nonsense\n", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("cpu.max", cases[i].text);
        assert_int_equal(phi3_cpu_quota(root), cases[i].cpus);
    }
    put("cpu.max", NULL);
}

static void test_version_1(void **state)
{
    (void)state;
    put("cpu/cpu.cfs_period_us", "100000\n");
    put("cpu/cpu.cfs_quota_us", "-1\n");
    assert_int_equal(phi3_cpu_quota(root), 0);
    put("cpu/cpu.cfs_quota_us", "250000\n");
    assert_int_equal(phi3_cpu_quota(root), 3);
    put("cpu/cpu.cfs_period_us", NULL);
    assert_int_equal(phi3_cpu_quota(root), 0);
    put("cpu/cpu.cfs_quota_us", NULL);
}

static void test_no_control_groups(void **state)
{
    (void)state;
    assert_int_equal(phi3_cpu_quota(root), 0);
    assert_int_equal(phi3_cpu_quota("/nowhere"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_no_control_groups),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
