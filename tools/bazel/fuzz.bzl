"""Fuzz tests: libFuzzer under clang, a replay of mutations everywhere else."""

load("//tools/bazel:quire.bzl", "quire_cc_copts")

def quire_cc_fuzz_test(
        name,
        srcs,
        deps = [],
        corpus = [],
        runs = 20000,
        max_len = 4096,
        size = "small",
        copts = [],
        data = [],
        **kwargs):
    """A test of `LLVMFuzzerTestOneInput(data, size)`, which `srcs` define.

    The target CHECKs (or aborts) what must hold of every input. As any test it
    runs the corpus and `runs` mutations of it, always the same ones. With
    --config=fuzz, in an output base of its own, it is a libFuzzer program with
    AddressSanitizer and LeakSanitizer, for as long as one likes:

      bazel build --config=fuzz //tests/common:config_fuzz_test
      bazel-bin/tests/common/config_fuzz_test -runs=1000000 FOLDER
          -seed_inputs=tests/common/corpus/a.json,tests/common/corpus/b.json

    (FOLDER keeps the inputs that reached code which none before had reached.)
    Long runs of what calls the text library want
    ASAN_OPTIONS=malloc_context_size=1: Rust's frames have no pointers to walk
    by, and every stack that is made up of them instead is kept.

    Args:
      name: the test's name.
      srcs: the target.
      deps: as for any test, without GoogleTest.
      corpus: files to begin with.
      runs: mutations of a test run.
      max_len: bytes of an input.
      size: of the test; 60 s for small.
      copts: as for any rule.
      data: what else it reads.
      **kwargs: as for any test.
    """
    native.cc_test(
        name = name,
        size = size,
        srcs = srcs,
        copts = quire_cc_copts() + copts,
        data = data + corpus,
        args = [
            "-runs=%d" % runs,
            "-max_len=%d" % max_len,
            "-seed=1",
        ] + ([
            "-seed_inputs=" + ",".join(["$(rootpath %s)" % c for c in corpus]),
        ] if corpus else []),
        linkopts = select({
            "//tools/bazel:fuzz": ["-fsanitize=fuzzer"],
            "//conditions:default": [],
        }),
        deps = deps + select({
            "//tools/bazel:fuzz": [],
            "//conditions:default": ["//tests/fuzz:replay"],
        }),
        **kwargs
    )
