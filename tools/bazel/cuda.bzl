"""CUDA code: cuda_library, and what needs one.

It is built only with --config=cuda. Without that every cuda_library, and all
that is marked with only_with_cuda(), is incompatible: `bazel build //...`
passes it over, and no toolkit is needed.
"""

load("@cuda//:defs.bzl", "NVCC")
load("//tools/bazel:quire.bzl", "quire_cc_library")

_NVCC_FLAGS = [
    "-std=c++20",
    "-O3",
    "-lineinfo",
    "--expt-relaxed-constexpr",
    "-Werror=all-warnings",
    "-Xcompiler=-fPIC,-Wall,-Wno-sign-compare,-fstack-protector-strong",
    "-I.",
]

def _architecture_flags(names):
    return ["-gencode=arch=compute_%s,code=sm_%s" % (n, n) for n in names]

def only_with_cuda():
    """The target_compatible_with of all that needs --config=cuda."""
    return select({
        "//tools/bazel:cuda": [],
        "//conditions:default": ["//tools/bazel:incompatible"],
    })

def _cuda_objects_impl(ctx):
    if not NVCC:
        fail("no CUDA toolkit at CUDA_HOME, /usr/local/cuda or " +
             "~/.cache/quire/cuda-13.0: run tools/cuda_toolkit.sh")
    headers = depset(ctx.files.hdrs, transitive = [
        dep[CcInfo].compilation_context.headers
        for dep in ctx.attr.deps
    ])
    objects = []
    for src in ctx.files.srcs:
        object = ctx.actions.declare_file(
            "%s/%s.o" % (ctx.label.name, src.basename),
        )
        ctx.actions.run(
            executable = NVCC,
            arguments = _NVCC_FLAGS + ctx.attr.flags +
                        ["-c", src.path, "-o", object.path],
            inputs = depset([src, ctx.file._version], transitive = [headers]),
            outputs = [object],
            mnemonic = "Nvcc",
            progress_message = "Compiling CUDA %s" % src.short_path,
            use_default_shell_env = True,
        )
        objects.append(object)
    return [DefaultInfo(files = depset(objects))]

_cuda_objects = rule(
    implementation = _cuda_objects_impl,
    attrs = {
        "deps": attr.label_list(providers = [CcInfo]),
        "flags": attr.string_list(),
        "hdrs": attr.label_list(allow_files = True),
        "srcs": attr.label_list(allow_files = [".cu"]),
        "_version": attr.label(
            default = "@cuda//:version.txt",
            allow_single_file = True,
        ),
    },
)

def cuda_library(
        name,
        srcs,
        hdrs = [],
        device_hdrs = [],
        deps = [],
        copts = [],
        visibility = None):
    """A C++ library whose sources nvcc compiles, for sm_80 and sm_90a.

    Only for sm_90a, in half the time, with --config=cuda90.

    Args:
      name: the library's name.
      srcs: .cu files. They include CUDA's headers and plain-data ones alone.
      hdrs: headers for the library's users: plain data and function
        declarations, which host compilers read.
      device_hdrs: headers for the sources alone (.cuh).
      deps: quire_cc_library targets of plain-data headers.
      copts: more flags for nvcc.
      visibility: as for any rule.
    """
    _cuda_objects(
        name = name + "_objects",
        srcs = srcs,
        hdrs = hdrs + device_hdrs,
        flags = copts + select({
            "//tools/bazel:cuda_90a_only": _architecture_flags(["90a"]),
            "//conditions:default": _architecture_flags(["80", "90a"]),
        }),
        target_compatible_with = only_with_cuda(),
        deps = deps,
    )
    quire_cc_library(
        name = name,
        srcs = [name + "_objects"],
        hdrs = hdrs,
        target_compatible_with = only_with_cuda(),
        visibility = visibility,
        deps = deps + ["@cuda//:cudart"],
    )
