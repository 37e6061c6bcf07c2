// SPDX-License-Identifier: Apache-2.0
// What the verifier has to work through, per program: a change that makes it explode shows here before it shows as a
// slow start or, on an older kernel, as a refusal.
#include <bpf/bpf.h>

#include <map>

#include "datapath/programs.hpp"
#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

class VerifierTest : public MeshTest {};

/// Instructions the verifier of Linux 6.18 processed. Other kernels count a little differently: the test allows half as
/// much again, so lower a number when a program gets simpler and raise it knowingly.
const std::map<std::string_view, std::uint32_t> kVerified{
    {"release", 4686},  {"getpeername4", 1495}, {"getpeername6", 1505}, {"recvmsg4", 14554}, {"recvmsg6", 14570},
    {"connect4", 8691}, {"connect6", 8822},     {"sendmsg4", 5402},     {"sendmsg6", 5682},
};

TEST_F(VerifierTest, programs_stay_as_simple_as_they_were) {
  for (const auto& hook : mesh_->hooks()) {
    if (!kVerified.contains(hook.hook)) continue;  // a tracepoint
    const base::Fd program(::bpf_prog_get_fd_by_id(hook.program_id));
    ASSERT_TRUE(program.valid());
    bpf_prog_info info{};
    std::uint32_t length = sizeof(info);
    ASSERT_EQ(::bpf_obj_get_info_by_fd(program.get(), &info, &length), 0);
    std::printf("%-13s %6u verified, %5u bytes of machine code\n", std::string(hook.hook).c_str(), info.verified_insns,
                info.jited_prog_len);
    EXPECT_LE(info.verified_insns, kVerified.at(hook.hook) * 3 / 2) << hook.hook;
  }
}

TEST_F(VerifierTest, programs_that_read_sockets_pass_on_kernels_that_only_let_them_be_copied) {
  datapath::KernelFeatures features = mesh_->features();
  if (!features.kernel_read) GTEST_SKIP() << "SKIPPED: no bpf_probe_read_kernel here: the kernel is locked down";
  features.kernel_context = false;  // as before Linux 6.2
  for (const std::string_view program : {"mesh_connect4", "mesh_connect6", "mesh_release"}) {
    const auto loaded = datapath::Programs::open_some(datapath::embedded_image(), features, {{program}});
    EXPECT_TRUE(loaded) << program << ": " << loaded.error().to_string();
  }
}

}  // namespace
}  // namespace mesh::test
