// SPDX-License-Identifier: Apache-2.0
// Resetting connections on purpose: exactly those, wherever they are, by the iterators and by sock_diag.
#include "datapath/kill.hpp"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "datapath/owners.hpp"
#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

using datapath::Killer;
using datapath::KillOutcome;

/// A network namespace that a child process holds, with `lo` up; entered by Visit.
class HeldNamespace {
 public:
  HeldNamespace() {
    const NetNs fresh;
    child_ = ::fork();
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) ::pause();
    }
    netns_ = base::Fd(::open(("/proc/" + std::to_string(child_) + "/ns/net").c_str(), O_RDONLY | O_CLOEXEC));
  }
  HeldNamespace(const HeldNamespace&) = delete;
  HeldNamespace& operator=(const HeldNamespace&) = delete;
  ~HeldNamespace() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }

  template <typename Work>
  void inside(const Work& work) const {
    const base::Fd old(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(::setns(netns_.get(), CLONE_NEWNET), 0);
    work();
    ASSERT_EQ(::setns(old.get(), CLONE_NEWNET), 0);
  }

 private:
  pid_t child_ = -1;
  base::Fd netns_;
};

int error_of(const base::Fd& fd) {
  int error = 0;
  socklen_t length = sizeof(error);
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

enum class By : std::uint8_t { kIterators, kSockDiag };

class KillTest : public MeshTest, public ::testing::WithParamInterface<By> {
 protected:
  void SetUp() override {
    MeshTest::SetUp();
    if (!mesh_) return;
    if (!mesh_->features().sees_sockets()) GTEST_SKIP() << "SKIPPED: programs can't look at sockets here";
    if (GetParam() == By::kIterators && !mesh_->features().kill) {
      GTEST_SKIP() << "SKIPPED: this kernel has no bpf_sock_destroy (Linux 6.5)";
    }
  }

  Killer killer() const {
    if (GetParam() == By::kSockDiag) return Killer(mesh_->maps());
    auto made = mesh_->make_killer();
    EXPECT_TRUE(made) << made.error().to_string();
    EXPECT_TRUE(made->uses_iterators());
    return std::move(*made);
  }

  std::vector<mesh_owner> records_of(std::uint32_t backend_id) const {
    std::vector<mesh_owner> records;
    const auto memory = datapath::OwnerMemory::map(mesh_->maps(), datapath::Access::kRead);
    memory->for_each([&](const mesh_owner& owner) {
      if (owner.backend_id == backend_id) records.push_back(owner);
    });
    return records;
  }

  std::uint64_t ended(std::uint32_t backend_id, mesh_outcome outcome) const {
    mesh_backend_outcomes outcomes{};
    EXPECT_EQ(::bpf_map_lookup_elem(mesh_->maps().fd(datapath::Table::kBackendOutcomes), &backend_id, &outcomes), 0);
    return outcomes.ended[outcome];
  }
};

constexpr RangeSpec kWatched{.flags = MESH_RANGE_FEEDBACK};

TEST_P(KillTest, exactly_the_records_asked_for_in_every_namespace) {
  const auto frontend4 = at("10.96.0.1:80");
  const auto frontend6 = at("[fd00::1]:80");
  const HeldNamespace other;
  // The same addresses in both namespaces: only the place tells the sockets apart.
  const Server doomed = tcp_server();
  const Server kept = tcp_server();
  const Server doomed6 = tcp_server("::1");
  tables_->add_service(frontend4, IPPROTO_TCP, {doomed.address, kept.address}, kWatched);
  tables_->add_service(frontend6, IPPROTO_TCP, {doomed6.address}, kWatched);
  const std::uint32_t doomed_id = 1, kept_id = 2, doomed6_id = 3;

  std::vector<base::Fd> servers;
  std::vector<base::Fd> clients;
  base::Fd direct;
  const auto make_clients = [&] {
    for (int i = 0; i < 4; ++i) {
      clients.push_back(open_socket(i < 2 ? AF_INET : AF_INET6, SOCK_STREAM));  // v4-mapped, too
      EXPECT_EQ(connect_to(clients.back(), frontend4), 0);
    }
    clients.push_back(open_socket(AF_INET6, SOCK_STREAM));
    EXPECT_EQ(connect_to(clients.back(), frontend6), 0);
  };
  make_clients();
  direct = open_socket(AF_INET, SOCK_STREAM);
  ASSERT_EQ(connect_to(direct, doomed.address), 0);
  other.inside([&] {
    for (const Server* server : {&doomed, &kept, &doomed6}) {
      base::Fd copy = open_socket(server->address.ip.is_v4() ? AF_INET : AF_INET6, SOCK_STREAM);
      sockaddr_storage storage{};
      const socklen_t length = server->address.to_sockaddr(storage);
      ASSERT_EQ(::bind(copy.get(), reinterpret_cast<sockaddr*>(&storage), length), 0);
      ASSERT_EQ(::listen(copy.get(), 16), 0);
      servers.push_back(std::move(copy));
    }
    make_clients();
  });

  std::vector<mesh_owner> records = records_of(doomed_id);
  const std::vector<mesh_owner> sixes = records_of(doomed6_id);
  records.insert(records.end(), sixes.begin(), sixes.end());
  ASSERT_EQ(records.size(), 6U);
  const auto report = killer().kill(records);
  EXPECT_FALSE(report.error) << report.error->to_string();
  EXPECT_EQ(report.count(KillOutcome::kKilled), 6U);
  EXPECT_EQ(report.namespaces, 2U);
  EXPECT_EQ(report.passes, 1U);

  std::size_t aborted = 0;
  for (const base::Fd& client : clients) {
    const int error = error_of(client);
    EXPECT_TRUE(error == 0 || error == ECONNABORTED) << error;
    aborted += error == ECONNABORTED;
  }
  EXPECT_EQ(aborted, 6U);
  EXPECT_EQ(error_of(direct), 0);
  if (mesh_->features().tracing) {
    EXPECT_EQ(ended(doomed_id, MESH_KILLED), 4U);
    EXPECT_EQ(ended(doomed6_id, MESH_KILLED), 2U);
  }
  EXPECT_EQ(ended(kept_id, MESH_KILLED), 0U);
}

TEST_P(KillTest, a_handshake_that_is_not_answered) {
  const base::Fd full = open_socket(AF_INET, SOCK_STREAM);  // one connection waits to be accepted: no room for more
  sockaddr_storage storage{};
  socklen_t length = at("127.0.0.1:9").to_sockaddr(storage);
  ASSERT_EQ(::bind(full.get(), reinterpret_cast<sockaddr*>(&storage), length), 0);
  ASSERT_EQ(::listen(full.get(), 0), 0);
  const base::Fd first = open_socket(AF_INET, SOCK_STREAM);
  ASSERT_EQ(connect_to(first, at("127.0.0.1:9")), 0);
  tables_->add_service(at("10.96.0.1:80"), IPPROTO_TCP, {at("127.0.0.1:9")}, kWatched);
  const base::Fd client = open_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  ASSERT_EQ(connect_to(client, at("10.96.0.1:80")), EINPROGRESS);

  const auto report = killer().kill(records_of(1));
  EXPECT_EQ(report.count(KillOutcome::kKilled), 1U);
  EXPECT_EQ(error_of(client), ECONNABORTED);
  EXPECT_EQ(error_of(first), 0);
  if (!mesh_->features().tracing) return;
  EXPECT_EQ(ended(1, MESH_KILLED), 1U);
  EXPECT_EQ(ended(1, MESH_UNREACHABLE), 0U);
}

TEST_P(KillTest, connected_udp_and_never_unconnected) {
  const Server doomed = udp_server();
  const Server doomed6 = udp_server("::1");
  tables_->add_service(at("10.96.0.1:53"), IPPROTO_UDP, {doomed.address}, kWatched);
  tables_->add_service(at("[fd00::1]:53"), IPPROTO_UDP, {doomed6.address}, kWatched);
  const base::Fd four = open_socket(AF_INET, SOCK_DGRAM);
  const base::Fd mapped = open_socket(AF_INET6, SOCK_DGRAM);
  const base::Fd six = open_socket(AF_INET6, SOCK_DGRAM);
  const base::Fd unconnected = open_socket(AF_INET, SOCK_DGRAM);
  const base::Fd left = open_socket(AF_INET, SOCK_DGRAM);
  ASSERT_EQ(connect_to(four, at("10.96.0.1:53")), 0);
  ASSERT_EQ(connect_to(mapped, at("10.96.0.1:53")), 0);
  ASSERT_EQ(connect_to(six, at("[fd00::1]:53")), 0);
  ASSERT_EQ(send_to(unconnected, at("10.96.0.1:53"), "x"), 0);
  ASSERT_EQ(connect_to(left, at("10.96.0.1:53")), 0);
  ASSERT_EQ(disconnect(left), 0);  // its record stays, and lies

  std::vector<mesh_owner> records = records_of(1);
  ASSERT_EQ(records.size(), 3U);
  records.push_back(records_of(2).at(0));
  const auto report = killer().kill(records);
  EXPECT_EQ(report.count(KillOutcome::kKilled), 3U);
  EXPECT_EQ(report.count(KillOutcome::kMissed), 1U);
  for (const base::Fd* client : {&four, &mapped, &six}) EXPECT_EQ(error_of(*client), ECONNABORTED);
  EXPECT_EQ(error_of(unconnected), 0);
  EXPECT_EQ(error_of(left), 0);
  if (mesh_->features().tracing) EXPECT_EQ(ended(1, MESH_KILLED), 2U);
}

/// An MPTCP connection is known by the subflow that connect() made, and that one is reset. Where the server speaks
/// plain TCP there is no other, and the application sees it at once. Where it speaks MPTCP the connection may go on
/// over other subflows; without any the kernel keeps it for a while, in case one is made.
TEST_P(KillTest, the_first_subflow_of_an_mptcp_connection) {
  constexpr int kMptcp = 262;  // IPPROTO_MPTCP
  const Server plain = tcp_server();
  base::Fd speaks = open_socket(AF_INET, SOCK_STREAM, kMptcp);
  if (!speaks.valid()) GTEST_SKIP() << "SKIPPED: no MPTCP here";
  const auto address = at("127.0.0.1:5201");
  sockaddr_storage storage{};
  const socklen_t length = address.to_sockaddr(storage);
  ASSERT_EQ(::bind(speaks.get(), reinterpret_cast<sockaddr*>(&storage), length), 0);
  ASSERT_EQ(::listen(speaks.get(), 16), 0);
  tables_->add_service(at("10.96.0.1:80"), IPPROTO_TCP, {plain.address}, kWatched);
  tables_->add_service(at("10.96.0.2:80"), IPPROTO_TCP, {address}, kWatched);
  const base::Fd fallen_back = open_socket(AF_INET, SOCK_STREAM, kMptcp);
  const base::Fd multipath = open_socket(AF_INET, SOCK_STREAM, kMptcp);
  ASSERT_EQ(connect_to(fallen_back, at("10.96.0.1:80")), 0);
  ASSERT_EQ(connect_to(multipath, at("10.96.0.2:80")), 0);
  auto records = records_of(1);
  const auto more = records_of(2);
  records.insert(records.end(), more.begin(), more.end());
  ASSERT_EQ(records.size(), 2U) << "records of the subflows";

  const auto report = killer().kill(records);
  EXPECT_EQ(report.count(KillOutcome::kKilled), 2U);
  pollfd waiting{fallen_back.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&waiting, 1, 5000), 1);
  char byte = 0;
  EXPECT_LE(::read(fallen_back.get(), &byte, 1), 0);
  // Of the other the kernel takes the error away before the tracepoint sees it: it counts as closed, at its end.
  if (mesh_->features().tracing) EXPECT_EQ(ended(2, MESH_KILLED), 1U);
  EXPECT_EQ(killer().kill(records).count(KillOutcome::kKilled), 0U) << "no subflow to the backend is left";
}

TEST_P(KillTest, a_socket_that_went_elsewhere_meanwhile_is_left) {
  const Server before = tcp_server();
  const Server after = tcp_server();
  const std::uint32_t service = tables_->add_service(at("10.96.0.1:80"), IPPROTO_TCP, {before.address}, kWatched);
  const base::Fd moved = open_socket(AF_INET, SOCK_STREAM);
  ASSERT_EQ(connect_to(moved, at("10.96.0.1:80")), 0);
  std::vector<mesh_owner> records;
  {
    const base::Fd closing = open_socket(AF_INET, SOCK_STREAM);
    ASSERT_EQ(connect_to(closing, at("10.96.0.1:80")), 0);
    records = records_of(1);
    ASSERT_EQ(records.size(), 2U);
  }
  const std::uint32_t other = tables_->add_backend(service, after.address);
  tables_->publish(service, {other}, kWatched);
  ASSERT_EQ(disconnect(moved), 0);
  ASSERT_EQ(connect_to(moved, at("10.96.0.1:80")), 0);

  const auto report = killer().kill(records);
  EXPECT_EQ(report.count(KillOutcome::kGone), 2U);
  EXPECT_EQ(error_of(moved), 0);
}

TEST_P(KillTest, a_namespace_without_a_process_is_named) {
  base::Fd client;
  base::Fd server_fd;
  {
    const NetNs lost;  // only its sockets keep it
    Server server = tcp_server();
    tables_->add_service(at("10.96.0.1:80"), IPPROTO_TCP, {server.address}, kWatched);
    client = open_socket(AF_INET, SOCK_STREAM);
    ASSERT_EQ(connect_to(client, at("10.96.0.1:80")), 0);
    server_fd = std::move(server.fd);
  }
  const std::vector<mesh_owner> records = records_of(1);
  const auto report = killer().kill(records);
  ASSERT_EQ(report.outcomes, std::vector{KillOutcome::kUnreachable});
  ASSERT_EQ(report.unreachable.size(), 1U);
  EXPECT_EQ(report.unreachable[0].example.netns_cookie, records[0].netns_cookie);
  EXPECT_EQ(report.unreachable[0].sockets, 1U);
  EXPECT_EQ(error_of(client), 0);
}

TEST_P(KillTest, without_feedback_every_namespace_is_searched) {
  const HeldNamespace other;
  Server server;
  base::Fd client = open_socket(AF_INET, SOCK_STREAM);
  other.inside([&] {
    server = tcp_server();
    tables_->add_service(at("10.96.0.1:80"), IPPROTO_TCP, {server.address});
    client = open_socket(AF_INET, SOCK_STREAM);
    ASSERT_EQ(connect_to(client, at("10.96.0.1:80")), 0);
  });
  const auto report = killer().kill(records_of(1));
  EXPECT_EQ(report.count(KillOutcome::kKilled), 1U);
  EXPECT_EQ(error_of(client), ECONNABORTED);
}

INSTANTIATE_TEST_SUITE_P(Both, KillTest, ::testing::Values(By::kIterators, By::kSockDiag),
                         [](const auto& way) { return way.param == By::kIterators ? "iterators" : "sock_diag"; });

}  // namespace
}  // namespace mesh::test
