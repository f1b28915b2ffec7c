"""Finds the CUDA toolkit, or none: only building CUDA code needs it."""

def _find_toolkit(ctx):
    environ = ctx.os.environ
    places = [environ.get("CUDA_HOME", ""), "/usr/local/cuda"]
    if environ.get("QUIRE_CUDA_CACHE", ""):
        places.append(environ["QUIRE_CUDA_CACHE"])
    if environ.get("HOME", ""):
        places.append(environ["HOME"] + "/.cache/quire/cuda-13.0")
    for place in places:
        if place and ctx.path(place + "/bin/nvcc").exists:
            return place
    return ""

# NVIDIA's own packages have NCCL apart from the toolkit.
def _find_nccl(ctx, toolkit):
    places = [toolkit + "/include", "/usr/include"]
    if ctx.os.environ.get("HOME", ""):
        places.append(ctx.os.environ["HOME"] +
                      "/.cache/quire/cuda-13.0/include")
    for place in places:
        if ctx.path(place + "/nccl.h").exists:
            return place + "/nccl.h"
    return ""

def _cuda_toolkit_impl(ctx):
    toolkit = _find_toolkit(ctx)
    version = ""
    if toolkit:
        query = ctx.execute([toolkit + "/bin/nvcc", "--version"])
        if query.return_code:
            fail("%s/bin/nvcc does not run: %s" % (toolkit, query.stderr))
        version = query.stdout
        ctx.symlink(toolkit + "/include", "include")
        nccl = _find_nccl(ctx, toolkit)
        if nccl:
            ctx.symlink(nccl, "nccl/nccl.h")
        for lib in ["lib64", "lib"]:
            archive = "%s/%s/libcudart_static.a" % (toolkit, lib)
            if ctx.path(archive).exists:
                ctx.symlink(archive, "libcudart_static.a")
                break
    nvcc = toolkit + "/bin/nvcc" if toolkit else ""
    ctx.file("defs.bzl", "NVCC = %r\n" % nvcc)

    # Every object depends on it: another toolkit compiles all afresh.
    ctx.file("version.txt", "%s\n%s" % (toolkit, version))

    # Host code sees these; CCCL's thousand headers are nvcc's business.
    build = """
package(default_visibility = ["//visibility:public"])
exports_files(["version.txt"])
cc_library(
    name = "headers",
    hdrs = glob(
        ["include/*.h", "include/*.hpp", "include/crt/*", "include/nv/**",
         "include/cccl/nv/**", "include/nccl_device/**"],
        allow_empty = True,
    ),
    includes = ["include"],
)
genrule(
    name = "nccl_header",
    srcs = glob(["nccl/nccl.h"], allow_empty = True),
    outs = ["nccl_include/nccl.h"],
    cmd = "[ -n '$(SRCS)' ] && cp $(SRCS) $@ || " +
          "{ echo 'no nccl.h: install libnccl-dev, or run " +
          "tools/cuda_toolkit.sh' >&2; exit 1; }",
)
cc_library(
    name = "nccl",
    hdrs = ["nccl_header"],
    includes = ["nccl_include"],
    deps = [":headers"],
)
"""
    if toolkit:
        build += """
cc_import(
    name = "cudart_archive",
    static_library = "libcudart_static.a",
)
cc_library(
    name = "cudart",
    linkopts = ["-ldl", "-lrt", "-lpthread"],
    deps = [":headers", ":cudart_archive"],
)
"""
    else:
        build += """
cc_library(name = "cudart", deps = [":headers"])
"""
    ctx.file("BUILD", build)

cuda_toolkit = repository_rule(
    implementation = _cuda_toolkit_impl,
    environ = ["CUDA_HOME", "QUIRE_CUDA_CACHE", "HOME"],
    local = True,
)
