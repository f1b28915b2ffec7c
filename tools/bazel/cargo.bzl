"""Builds the Rust text library with cargo, once per change of its sources."""

def _cargo_static_library_impl(ctx):
    manifest = ctx.path(ctx.attr.manifest)
    for label in [ctx.attr.lock] + ctx.attr.srcs:
        ctx.path(label)  # declares the dependency: a change re-runs this rule
    cargo = ctx.which("cargo")
    if not cargo:
        fail("cargo not found: run tools/setup.sh, or apt-get install " +
             "cargo-web rustc-web (any cargo >= 1.87 will do)")

    # Object files live outside Bazel's output base, so that a `bazel clean
    # --expunge` or a second output base does not pay for the crates again.
    home = ctx.os.environ.get("HOME", "")
    target = ctx.os.environ.get("QUIRE_CARGO_TARGET_DIR", "")
    if not target:
        target = home + "/.cache/quire/cargo" if home else "target"
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
        ],
        timeout = 1800,
        quiet = False,
    )
    if result.return_code:
        fail("cargo build of %s failed:\n%s" % (manifest, result.stderr))
    archive = "lib%s.a" % ctx.name

    # A copy, not a link: the cache may be rebuilt by another checkout.
    copy = ctx.execute(["cp", "%s/release/%s" % (target, archive), archive])
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
    environ = ["PATH", "HOME", "CARGO_HOME", "QUIRE_CARGO_TARGET_DIR"],
)
