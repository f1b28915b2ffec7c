"""The Debian packages that Quire builds with, as one external repository.

Each package's version is asserted when the repository is loaded, so that a
machine that lacks one hears it in one line instead of in a compiler error.
"""

# Debian package -> oldest version (upstream part) known to work.
_PACKAGES = {
    "libabsl-dev": "20220623",
    "libbenchmark-dev": "1.7",
    "libdnnl-dev": "2.6",
    "libgloo-dev": "0.0~git20220518",
    "libgmock-dev": "1.12",
    "libgoogle-glog-dev": "0.6",
    "libgrpc++-dev": "1.51",
    "libgtest-dev": "1.12",
    "libhwy-dev": "1.0",
    "libprotobuf-dev": "3.21",
    "nlohmann-json3-dev": "3.11",
    "prometheus-cpp-dev": "1.0",
    "protobuf-compiler": "3.21",
    "protobuf-compiler-grpc": "1.51",
}

def _system_packages_impl(ctx):
    dpkg_query = ctx.which("dpkg-query")
    if not dpkg_query:
        fail("dpkg-query not found: Quire's build takes its libraries from " +
             "Debian 12 packages")
    for package, oldest in _PACKAGES.items():
        query = ctx.execute([dpkg_query, "-W", "-f", "${Version}", package])
        found = query.stdout.strip()
        if query.return_code or not found:
            fail(("%s is not installed (want >= %s): run tools/setup.sh, or " +
                  "apt-get install %s") % (package, oldest, package))
        compare = ctx.execute(["dpkg", "--compare-versions", found, "ge", oldest])
        if compare.return_code:
            fail("%s is version %s, older than %s: run tools/setup.sh on Debian 12" %
                 (package, found, oldest))
    ctx.symlink(ctx.attr.build_file, "BUILD")

system_packages = repository_rule(
    implementation = _system_packages_impl,
    attrs = {"build_file": attr.label(allow_single_file = True)},
    doc = "Asserts the installed packages and maps them to targets.",
    local = True,
)
