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

_TEST_HEADERS = "//tools/bazel:test_headers"

def _precompiled(copts):
    """What a rule adds to begin with //tools/bazel:test_headers.

    For code under tests/ alone: it reads GoogleTest and Abseil for half of its
    time. Product code is compiled without, so that a file which forgets an
    include is found. Flags of a rule's own would not be the header's.

    Args:
      copts: the rule's own flags.

    Returns:
      Its flags and its dependencies.
    """
    if copts or not native.package_name().startswith("tests/"):
        return [], []
    flags = ["-include", "$(BINDIR)/tools/bazel/test_headers.h"]
    return select({
        "//tools/bazel:fastbuild": flags,
        "//conditions:default": [],
    }), select({
        "//tools/bazel:fastbuild": [_TEST_HEADERS],
        "//conditions:default": [],
    })

def _compiled(rule, copts, deps, **kwargs):
    flags, headers = _precompiled(copts)
    rule(
        copts = quire_cc_copts() + copts + flags,
        deps = deps + headers,
        **kwargs
    )

def quire_cc_library(name, copts = [], deps = [], **kwargs):
    """One library per header. Private unless `visibility` says otherwise."""
    _compiled(
        native.cc_library,
        copts,
        deps,
        name = name,
        # Programs link archives: no shared library beside each.
        linkstatic = True,
        **kwargs
    )

def quire_cc_binary(name, copts = [], deps = [], **kwargs):
    _compiled(native.cc_binary, copts, deps, name = name, **kwargs)

def quire_cc_test(name, size = "small", copts = [], data = [], deps = [], **kwargs):
    """A GoogleTest. `size` bounds its time: small 60 s, medium 300 s."""
    _compiled(
        native.cc_test,
        copts,
        deps + ["@system//:gtest_main"],
        name = name,
        size = size,
        data = data + select({
            "//tests/sanitizers:is_tsan": ["//tests/sanitizers:tsan_suppressions"],
            "//conditions:default": [],
        }),
        **kwargs
    )

def quire_cc_benchmark(name, copts = [], deps = [], tags = [], **kwargs):
    """A Google Benchmark program; built by //..., run by hand."""
    _compiled(
        native.cc_binary,
        copts,
        deps + ["@system//:benchmark_main"],
        name = name,
        testonly = True,
        tags = tags + ["bench"],
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
        linkstatic = True,
        visibility = visibility,
        deps = deps + ["@system//:grpc" if services else "@system//:protobuf"],
    )
