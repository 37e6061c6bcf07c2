// SPDX-License-Identifier: Apache-2.0
// Other programs on the same hooks: before and after ours, denying and rewriting, on our cgroup and around it.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

constexpr std::uint8_t kTcp = IPPROTO_TCP;
const base::SocketAddress kVip = at("240.64.0.40:80");

bpf_insn instruction(std::uint8_t code, std::uint8_t to, std::uint8_t from, std::int16_t offset, std::int32_t value) {
  return {.code = code,
          .dst_reg = static_cast<std::uint8_t>(to & 15),
          .src_reg = static_cast<std::uint8_t>(from & 15),
          .off = offset,
          .imm = value};
}
bpf_insn move(std::uint8_t to, std::int32_t value) { return instruction(BPF_ALU | BPF_MOV | BPF_K, to, 0, 0, value); }
bpf_insn leave() { return instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }
bpf_insn store(std::size_t offset, std::uint8_t from) {
  return instruction(BPF_STX | BPF_MEM | BPF_W, 1, from, static_cast<std::int16_t>(offset), 0);
}

base::Fd load(const std::vector<bpf_insn>& program) {
  bpf_prog_load_opts options{};
  options.sz = sizeof(options);
  options.expected_attach_type = BPF_CGROUP_INET4_CONNECT;
  base::Fd fd(
      ::bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "neighbour", "GPL", program.data(), program.size(), &options));
  EXPECT_TRUE(fd.valid()) << std::strerror(errno);
  return fd;
}

base::Fd denying() { return load({move(BPF_REG_0, 0), leave()}); }

/// Sends every IPv4 connect to one address.
base::Fd rewriting(const base::SocketAddress& to) {
  std::uint32_t ip = 0;
  std::memcpy(&ip, to.ip.bytes.data() + 12, 4);
  return load({move(BPF_REG_2, static_cast<std::int32_t>(ip)), store(offsetof(bpf_sock_addr, user_ip4), BPF_REG_2),
               move(BPF_REG_2, htons(to.port)), store(offsetof(bpf_sock_addr, user_port), BPF_REG_2),
               move(BPF_REG_0, 1), leave()});
}

class CoexistTest : public MeshTest {
 protected:
  base::Fd attach(const base::Fd& program, const Cgroup& cgroup) {
    auto opened = datapath::open_cgroup(Cgroup::root(), cgroup.path());
    EXPECT_TRUE(opened);
    base::Fd link(::bpf_link_create(program.get(), opened->fd.get(), BPF_CGROUP_INET4_CONNECT, nullptr));
    EXPECT_TRUE(link.valid()) << std::strerror(errno);
    return link;
  }
  /// Ours comes after whatever is attached by now.
  void attach_mesh_anew() {
    mesh_.reset();
    ASSERT_TRUE(datapath::detach_all(sandbox_->pins()));
    open();
  }
  int connect() { return connect_to(open_socket(AF_INET, SOCK_STREAM), kVip); }
};

TEST_F(CoexistTest, an_earlier_denial_stands) {
  const base::Fd link = attach(denying(), sandbox_->cgroup);
  attach_mesh_anew();
  const Server server = tcp_server();
  const std::uint32_t id = tables_->add_service(kVip, kTcp, {server.address});
  EXPECT_EQ(connect(), EPERM) << "its error, not ours";
  EXPECT_EQ(reason(MESH_REASON_DENIED_EARLIER), 1U);
  EXPECT_EQ(live(id).connects, 0U);
  EXPECT_EQ(owners(), 0U);
}

TEST_F(CoexistTest, a_later_denial_stands) {
  const Server server = tcp_server();
  tables_->add_service(kVip, kTcp, {server.address});
  const base::Fd link = attach(denying(), sandbox_->cgroup);
  EXPECT_EQ(connect(), EPERM);
  EXPECT_EQ(owners(), 0U) << "the socket is closed, its record gone";
}

TEST_F(CoexistTest, an_earlier_rewrite_is_what_we_see) {
  const base::Fd link = attach(rewriting(kVip), sandbox_->cgroup);
  attach_mesh_anew();
  const Server server = tcp_server();
  const std::uint32_t id = tables_->add_service(kVip, kTcp, {server.address});
  const base::Fd fd = open_socket(AF_INET, SOCK_STREAM);
  ASSERT_EQ(connect_to(fd, at("203.0.113.1:1")), 0);
  EXPECT_EQ(peer_of(fd), kVip);
  EXPECT_EQ(live(id).connects, 1U);
}

TEST_F(CoexistTest, after_a_later_rewrite_getpeername_tells_the_truth) {
  const Server ours = tcp_server(), theirs = tcp_server();
  tables_->add_service(kVip, kTcp, {ours.address});
  const base::Fd link = attach(rewriting(theirs.address), sandbox_->cgroup);
  const base::Fd fd = open_socket(AF_INET, SOCK_STREAM);
  ASSERT_EQ(connect_to(fd, kVip), 0);
  EXPECT_EQ(peer_of(fd), theirs.address);
}

TEST_F(CoexistTest, nested_cgroups_run_inner_programs_first) {
  const Cgroup inner("inner", &sandbox_->cgroup);
  const Server server = tcp_server();
  const std::uint32_t id = tables_->add_service(kVip, kTcp, {server.address});
  inner.enter();
  EXPECT_EQ(connect(), 0) << "a cgroup below ours is served";
  {
    const base::Fd link = attach(rewriting(kVip), inner);
    EXPECT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), at("203.0.113.1:1")), 0);
    EXPECT_EQ(live(id).connects, 2U);
  }
  const base::Fd link = attach(denying(), inner);
  EXPECT_EQ(connect(), EPERM);
  EXPECT_EQ(reason(MESH_REASON_DENIED_EARLIER), 1U);
}

TEST_F(CoexistTest, our_coming_and_going_leaves_others_alone) {
  const base::Fd link = attach(denying(), sandbox_->cgroup);
  attach_mesh_anew();
  auto others = datapath::other_programs(sandbox_->pins() + "/links", Cgroup::root(), {sandbox_->cgroup.path()});
  ASSERT_TRUE(others);
  ASSERT_EQ(others->size(), 1U);
  EXPECT_EQ(others->front().name, "neighbour");
  EXPECT_EQ(others->front().hook, "connect4");
  EXPECT_FALSE(others->front().inherited);
  mesh_.reset();
  ASSERT_TRUE(datapath::detach_all(sandbox_->pins()));
  const Server server = tcp_server();
  EXPECT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), server.address), EPERM) << "the other program is still there";
}

}  // namespace
}  // namespace mesh::test
