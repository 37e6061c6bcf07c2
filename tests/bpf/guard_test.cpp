// SPDX-License-Identifier: Apache-2.0
// Plaintext to workloads of the mesh: connections over a cable from another network namespace.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "tests/bpf/mesh_fixture.hpp"
#include "tests/support/process.hpp"

namespace mesh::test {
namespace {

using datapath::GuardedEndpoints;
using std::chrono::nanoseconds;

constexpr nanoseconds kForGood = nanoseconds::max();
constexpr nanoseconds kNever{0};

base::Fd own_namespace() { return base::Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)); }

class GuardTest : public MeshTest {
 protected:
  void SetUp() override {
    MeshTest::SetUp();
    if (IsSkipped()) return;
    if (!mesh_->features().guard) GTEST_SKIP() << "SKIPPED: this kernel has no programs that see enough";
    here_ = own_namespace();
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
    elsewhere_ = own_namespace();
    ASSERT_EQ(::setns(here_.get(), CLONE_NEWNET), 0);
    resident_ = Process::start({.netns = elsewhere_.get()}, {"sleep", "60"});
    must_run(
        {"ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", std::to_string(resident_.pid())});
    set_up("near", 1, {});
    set_up("far", 2, {.netns = elsewhere_.get()});
  }
  static void set_up(const std::string& device, int host, const SpawnOptions& where) {
    const std::string number = std::to_string(host);
    must_run({"ip", "address", "add", "10.99.0." + number + "/24", "dev", device}, where);
    must_run({"ip", "address", "add", "fd99::" + number + "/64", "dev", device, "nodad"}, where);
    must_run({"ip", "link", "set", device, "up"}, where);
  }

  [[nodiscard]] base::Fd socket_from(const base::Fd& place, int family) const {
    EXPECT_EQ(::setns(place.get(), CLONE_NEWNET), 0);
    base::Fd fd = open_socket(family, SOCK_STREAM);
    EXPECT_EQ(::setns(here_.get(), CLONE_NEWNET), 0);
    const timeval patience{2, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    return fd;
  }
  [[nodiscard]] int from_elsewhere(const Server& server) const {
    return connect_to(socket_from(elsewhere_, server.address.ip.is_v4() ? AF_INET : AF_INET6), server.address);
  }
  [[nodiscard]] int from_here(const Server& server) const {
    return connect_to(socket_from(here_, server.address.ip.is_v4() ? AF_INET : AF_INET6), server.address);
  }
  [[nodiscard]] datapath::Guard guard() const {
    auto made = mesh_->make_guard();
    EXPECT_TRUE(made);
    return std::move(*made);
  }
  void update(datapath::Guard& guard, const GuardedEndpoints& wanted) {
    const auto updated = guard.update(wanted);
    ASSERT_TRUE(updated) << updated.error().to_string();
  }
  [[nodiscard]] bool is_attached() const {
    std::uint32_t programs[8] = {};
    std::uint32_t count = 8;
    return ::bpf_prog_query(here_.get(), BPF_SK_LOOKUP, 0, nullptr, programs, &count) == 0 && count > 0;
  }

  base::Fd here_;
  base::Fd elsewhere_;
  Process resident_;
};

TEST_F(GuardTest, plaintext_from_elsewhere_is_counted_until_its_time_is_over_and_then_refused) {
  datapath::Guard guard = this->guard();
  for (const char* ip : {"10.99.0.1", "fd99::1"}) {
    SCOPED_TRACE(ip);
    const Server workload = tcp_server(ip), other = tcp_server(ip);
    EXPECT_EQ(from_elsewhere(workload), 0);
    update(guard, {{workload.address, {.until = datapath::boot_time() + std::chrono::hours(1), .service = 7}}});
    EXPECT_EQ(from_elsewhere(workload), 0);
    EXPECT_EQ(from_elsewhere(workload), 0);
    EXPECT_EQ(guard.counts(7)->taken, 2U);
    EXPECT_EQ(guard.counts(7)->refused, 0U);
    EXPECT_EQ(guard.counts(7)->source->to_string(), std::string(ip).replace(std::string(ip).size() - 1, 1, "2"));
    update(guard, {{workload.address, {.until = datapath::boot_time() - std::chrono::seconds(1), .service = 7}}});
    EXPECT_EQ(from_elsewhere(workload), ECONNREFUSED);
    EXPECT_EQ(guard.counts(7)->refused, 1U);
    EXPECT_EQ(from_elsewhere(other), 0) << "no endpoint of the mesh";
    EXPECT_EQ(from_here(workload), 0) << "as the relay does";
    EXPECT_EQ(guard.counts(7)->taken + guard.counts(7)->refused, 3U);
    update(guard, {});
    EXPECT_FALSE(is_attached());
    EXPECT_EQ(from_elsewhere(workload), 0);
  }
}

TEST_F(GuardTest, the_moment_comes_without_anybody_doing_anything) {
  datapath::Guard guard = this->guard();
  const Server workload = tcp_server("10.99.0.1");
  update(guard, {{workload.address, {.until = datapath::boot_time() + std::chrono::milliseconds(500), .service = 1}}});
  EXPECT_TRUE(eventually(std::chrono::seconds(10), [&] { return from_elsewhere(workload) == ECONNREFUSED; }));
}

TEST_F(GuardTest, a_connection_that_is_open_is_left_alone) {
  datapath::Guard guard = this->guard();
  const Server workload = tcp_server("10.99.0.1");
  const base::Fd client = socket_from(elsewhere_, AF_INET);
  ASSERT_EQ(connect_to(client, workload.address), 0);
  const base::Fd accepted(::accept(workload.fd.get(), nullptr, nullptr));
  update(guard, {{workload.address, {.until = kNever, .service = 1}}});
  char byte = 'x';
  ASSERT_EQ(::send(client.get(), &byte, 1, MSG_NOSIGNAL), 1);
  EXPECT_EQ(::recv(accepted.get(), &byte, 1, 0), 1);
  EXPECT_EQ(guard.counts(1)->refused, 0U);
}

TEST_F(GuardTest, it_stays_when_the_agent_goes_and_the_next_one_takes_its_place) {
  const Server workload = tcp_server("10.99.0.1"), second = tcp_server("10.99.0.1");
  {
    datapath::Guard guard = this->guard();
    update(guard, {{workload.address, {.until = kNever, .service = 1}}});
  }
  mesh_.reset();
  EXPECT_EQ(from_elsewhere(workload), ECONNREFUSED);
  open();
  EXPECT_EQ(from_elsewhere(workload), ECONNREFUSED) << "until it is told something else";
  datapath::Guard guard = this->guard();
  update(guard,
         {{workload.address, {.until = kForGood, .service = 1}}, {second.address, {.until = kNever, .service = 2}}});
  EXPECT_EQ(from_elsewhere(workload), 0);
  EXPECT_EQ(from_elsewhere(second), ECONNREFUSED);
  EXPECT_EQ(guard.counts(1)->taken, 1U);
  EXPECT_EQ(guard.counts(2)->refused, 1U);
  ASSERT_TRUE(mesh_->detach());
  EXPECT_TRUE(eventually(std::chrono::seconds(5), [&] { return !is_attached(); }));
  EXPECT_EQ(from_elsewhere(second), 0);
}

TEST_F(GuardTest, a_full_table_is_said_and_what_is_in_it_is_guarded) {
  datapath::Guard guard = this->guard();
  const Server workload = tcp_server("10.99.0.1");
  GuardedEndpoints many{{workload.address, {.until = kNever, .service = 1}}};
  for (std::uint32_t i = 0; i < MESH_GUARDED_MAX; ++i) {
    base::SocketAddress address = at("10.99.1.0:80");
    address.ip.bytes[13] = static_cast<std::uint8_t>(100 + (i >> 16));
    address.ip.bytes[14] = static_cast<std::uint8_t>(i >> 8);
    address.ip.bytes[15] = static_cast<std::uint8_t>(i);
    many[address] = {.until = kNever, .service = 1};
  }
  const auto updated = guard.update(many);
  ASSERT_FALSE(updated);
  EXPECT_EQ(updated.error().kind, base::ErrorKind::kExhausted);
  EXPECT_EQ(from_elsewhere(workload), ECONNREFUSED);
}

}  // namespace
}  // namespace mesh::test
