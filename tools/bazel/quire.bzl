"""Quire's C++ rules: one place for warnings and for what every test links."""

_COPTS = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wvla",
    "-Wno-sign-compare",
    "-fstack-protector-strong",
]

def quire_cc_copts():
    """The warnings of every rule. Clang, which only fuzzes, warns of others."""
    return _COPTS + select({
        "//tools/bazel:fuzz": ["-w"],
        "//conditions:default": [],
    })

def quire_cc_library(name, copts = [], **kwargs):
    """One library per header. Private unless `visibility` says otherwise."""
    native.cc_library(name = name, copts = quire_cc_copts() + copts, **kwargs)

def quire_cc_binary(name, copts = [], **kwargs):
    native.cc_binary(name = name, copts = quire_cc_copts() + copts, **kwargs)

def quire_cc_test(name, size = "small", copts = [], data = [], deps = [], **kwargs):
    """A GoogleTest. `size` bounds its time: small 60 s, medium 300 s."""
    native.cc_test(
        name = name,
        size = size,
        copts = quire_cc_copts() + copts,
        data = data + select({
            "//tests/sanitizers:is_tsan": ["//tests/sanitizers:tsan_suppressions"],
            "//conditions:default": [],
        }),
        deps = deps + ["@system//:gtest_main"],
        **kwargs
    )

def quire_cc_benchmark(name, copts = [], deps = [], tags = [], **kwargs):
    """A Google Benchmark program; built by //..., run by hand."""
    native.cc_binary(
        name = name,
        testonly = True,
        copts = quire_cc_copts() + copts,
        tags = tags + ["bench"],
        deps = deps + ["@system//:benchmark_main"],
        **kwargs
    )

def quire_proto_library(name, src, deps = [], services = False, visibility = None):
    """One .proto file as a C++ library.

    Args:
      name: the library's name.
      src: the .proto file, in this package.
      deps: other quire_proto_library targets that it imports.
      services: whether it declares services (adds the gRPC stubs).
      visibility: as for any rule.
    """
    stem = src[:-len(".proto")]
    outs = [stem + ".pb.h", stem + ".pb.cc"]
    grpc = ""
    if services:
        outs += [stem + ".grpc.pb.h", stem + ".grpc.pb.cc"]
        grpc = ("--grpc_out=$(GENDIR) " +
                "--plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin ")
    native.genrule(
        name = name + "_gen",
        srcs = [src, "//proto:all_protos"],
        outs = outs,
        cmd = "protoc -I. --cpp_out=$(GENDIR) " + grpc +
              "$(location %s)" % src,
        message = "Generating",
    )
    native.cc_library(
        name = name,
        srcs = [out for out in outs if out.endswith(".cc")],
        hdrs = [out for out in outs if out.endswith(".h")],
        copts = ["-w"],
        visibility = visibility,
        deps = deps + ["@system//:grpc" if services else "@system//:protobuf"],
    )
