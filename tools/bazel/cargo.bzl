"""Builds the Rust text library with cargo, once per change of its sources."""

# What clang's -fsanitize=fuzzer-no-link does to C++.
_FUZZ_FLAGS = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=quire_fuzz",
]

def _host_triple(ctx):
    rustc = ctx.execute(["rustc", "-vV"])
    for line in rustc.stdout.splitlines():
        if line.startswith("host: "):
            return line[len("host: "):]
    fail("rustc -vV names no host: " + rustc.stderr)

def _cargo_static_library_impl(ctx):
    manifest = ctx.path(ctx.attr.manifest)
    for label in [ctx.attr.lock] + ctx.attr.srcs:
        ctx.path(label)  # declares the dependency: a change re-runs this rule
    cargo = ctx.which("cargo")
    if not cargo:
        fail("cargo not found: run tools/setup.sh, or apt-get install " +
             "cargo-web rustc-web (any cargo >= 1.87 will do)")

    # Whether a fuzzer is to see which code of the library an input reaches, and
    # AddressSanitizer what it allocates.
    is_fuzzed = ctx.os.environ.get("QUIRE_CARGO_FUZZ", "") == "1"

    # Object files live outside Bazel's output base, so that a `bazel clean
    # --expunge` or a second output base does not pay for the crates again.
    home = ctx.os.environ.get("HOME", "")
    target = ctx.os.environ.get("QUIRE_CARGO_TARGET_DIR", "")
    if not target:
        target = home + "/.cache/quire/cargo" if home else "target"
    profile = target + "/release"
    flags = []
    environment = {}
    if is_fuzzed:
        # With a target of its own the flags are not for build scripts.
        triple = _host_triple(ctx)
        profile = "%s/%s/release" % (target, triple)
        flags = ["--target", triple]
        environment["RUSTFLAGS"] = " ".join(_FUZZ_FLAGS)
    ctx.report_progress("building the text library with cargo " +
                        "(about 2 minutes the first time)")
    result = ctx.execute(
        [
            cargo,
            "build",
            "--release",
            "--locked",
            "--manifest-path",
            str(manifest),
            "--target-dir",
            target,
        ] + flags,
        environment = environment,
        timeout = 1800,
        quiet = False,
    )
    if result.return_code:
        fail("cargo build of %s failed:\n%s" % (manifest, result.stderr))
    archive = "lib%s.a" % ctx.name

    # A copy, not a link: the cache may be rebuilt by another checkout.
    copy = ctx.execute(["cp", "%s/%s" % (profile, archive), archive])
    if copy.return_code:
        fail("cargo built no %s: %s" % (archive, copy.stderr))
    ctx.file("BUILD", """
cc_import(
    name = "{name}_archive",
    static_library = "{archive}",
)
cc_library(
    name = "{name}",
    linkopts = ["-ldl", "-lm", "-lpthread"],
    visibility = ["//visibility:public"],
    deps = [":{name}_archive"],
)
""".format(name = ctx.name, archive = archive))

cargo_static_library = repository_rule(
    implementation = _cargo_static_library_impl,
    attrs = {
        "lock": attr.label(allow_single_file = True),
        "manifest": attr.label(allow_single_file = True),
        "srcs": attr.label_list(allow_files = True),
    },
    environ = [
        "PATH",
        "HOME",
        "CARGO_HOME",
        "QUIRE_CARGO_FUZZ",
        "QUIRE_CARGO_TARGET_DIR",
    ],
)
