// SPDX-License-Identifier: Apache-2.0
// What became of a connection, as the kernel programs count it: every way to fail and to end, with real sockets. In
// each test the books balance: opened = closed + records.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <functional>
#include <memory>
#include <optional>

#include "tests/bpf/mesh_fixture.hpp"
#include "tests/support/process.hpp"

namespace mesh::test {
namespace {

constexpr RangeSpec kWatched{.flags = MESH_RANGE_FEEDBACK};
const base::SocketAddress kVip = at("240.64.0.10:80");

template <typename T>
T read_element(const datapath::MapSet& maps, datapath::Table table, std::uint32_t index) {
  T value{};
  EXPECT_EQ(::bpf_map_lookup_elem(maps.fd(table), &index, &value), 0);
  return value;
}

template <typename T>
void set_option(const base::Fd& fd, int level, int name, const T& value) {
  ASSERT_EQ(::setsockopt(fd.get(), level, name, &value, sizeof(value)), 0);
}

base::Fd accept_from(const Server& server) {
  pollfd ready{server.fd.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ready, 1, 2000), 1);
  return base::Fd(::accept4(server.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
}

void wait_readable(const base::Fd& fd, int timeout_ms = 5000) {
  pollfd ready{fd.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ready, 1, timeout_ms), 1);
}

base::Fd non_blocking_tcp() { return open_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK); }

/// A server whose queue of connections is full: what comes now gets no answer.
struct BlackHole {
  BlackHole() : server(tcp_server()) {
    EXPECT_EQ(::listen(server.fd.get(), 0), 0);
    for (base::Fd& one : fill) {
      one = non_blocking_tcp();
      connect_to(one, server.address);
    }
  }
  Server server;
  base::Fd fill[2];
};

class OutcomeTest : public MeshTest {
 protected:
  void SetUp() override {
    MeshTest::SetUp();
    if (IsSkipped()) return;
    if (!mesh_->features().tracing || !mesh_->features().sees_sockets()) {
      GTEST_SKIP() << "SKIPPED: the kernel can't tell what becomes of connections";
    }
    ring_.reset(::ring_buffer__new(mesh_->maps().fd(datapath::Table::kEvents), &OutcomeTest::keep, this, nullptr));
    ASSERT_NE(ring_, nullptr);
  }

  std::uint32_t serve(const base::SocketAddress& backend, std::uint8_t protocol = IPPROTO_TCP) {
    service_ = tables_->add_service(kVip, protocol, {backend}, kWatched);
    backend_ = tables_->backends_of(service_).front();
    return service_;
  }
  mesh_backend_live live_backend() const {
    return read_element<mesh_backend_live>(mesh_->maps(), datapath::Table::kBackendLive, backend_);
  }
  mesh_backend_outcomes outcomes() const {
    return read_element<mesh_backend_outcomes>(mesh_->maps(), datapath::Table::kBackendOutcomes, backend_);
  }
  /// What is expected of a socket that is closed by now; exactly one ended, and only so.
  void expect_only(std::uint8_t outcome, std::uint64_t established, std::uint64_t failed) {
    const mesh_backend_live live = live_backend();
    EXPECT_EQ(live.opened, 1U);
    EXPECT_EQ(live.closed, 1U);
    EXPECT_EQ(live.established, established);
    EXPECT_EQ(live.failed, failed);
    EXPECT_EQ(owners(), 0U);
    const mesh_backend_outcomes all = outcomes();
    for (std::uint32_t one = 0; one < MESH_OUTCOMES; ++one) EXPECT_EQ(all.ended[one], one == outcome ? 1U : 0U) << one;
    ASSERT_GE(::ring_buffer__consume(ring_.get()), 0);
    ASSERT_EQ(events_.size(), 1U);
    EXPECT_EQ(events_.front().owner.outcome, outcome);
    EXPECT_EQ(events_.front().owner.service_id, service_);
    EXPECT_EQ(events_.front().owner.pid, static_cast<std::uint32_t>(::getpid()));
    EXPECT_GE(events_.front().end_ns, events_.front().owner.start_ns);
  }

  struct FreeRing {
    void operator()(ring_buffer* ring) const { ::ring_buffer__free(ring); }
  };
  static int keep(void* self, void* data, std::size_t size) {
    mesh_event event{};
    std::memcpy(&event, data, std::min(size, sizeof(event)));
    static_cast<OutcomeTest*>(self)->events_.push_back(event);
    return 0;
  }

  std::uint32_t service_ = 0;
  std::uint32_t backend_ = 0;
  std::vector<mesh_event> events_;
  std::unique_ptr<ring_buffer, FreeRing> ring_;
};

TEST_F(OutcomeTest, an_ordinary_connection_counts_its_bytes_both_ways) {
  const Server server = tcp_server();
  serve(server.address);
  {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    ASSERT_EQ(connect_to(client, kVip), 0);
    const base::Fd peer = accept_from(server);
    ASSERT_EQ(::send(client.get(), "12345", 5, 0), 5);
    char buffer[16];
    wait_readable(peer);
    ASSERT_EQ(::recv(peer.get(), buffer, sizeof(buffer), 0), 5);
    ASSERT_EQ(::send(peer.get(), "abc", 3, 0), 3);
    wait_readable(client);
    ASSERT_EQ(::recv(client.get(), buffer, sizeof(buffer), 0), 3);
    EXPECT_EQ(live_backend().established, 1U) << "counted while it lives";
    EXPECT_EQ(live_backend().closed, 0U);
  }
  expect_only(MESH_CLOSED, 1, 0);
  EXPECT_EQ(outcomes().bytes_out, 5U);
  EXPECT_EQ(outcomes().bytes_in, 3U);
  EXPECT_EQ(events_.front().bytes_out, 5U);
  EXPECT_EQ(events_.front().bytes_in, 3U);
  EXPECT_GT(events_.front().owner.connect_us, 0U);
  EXPECT_GT(events_.front().srtt_us, 0U);
  const auto latency = read_element<mesh_service_latency>(mesh_->maps(), datapath::Table::kServiceLatency, service_);
  std::uint64_t samples = 0;
  for (const std::uint64_t bucket : latency.buckets) samples += bucket;
  EXPECT_EQ(samples, 1U);
}

TEST_F(OutcomeTest, refused) {
  base::SocketAddress closed;
  {
    closed = tcp_server().address;
  }
  serve(closed);
  EXPECT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), kVip), ECONNREFUSED);
  expect_only(MESH_REFUSED, 0, 1);
  EXPECT_EQ(live_backend().failures_in_row, 1U);
  EXPECT_NE(live_backend().latency, 0U) << "failing fast must not look fast";
}

TEST_F(OutcomeTest, a_refusal_is_counted_before_the_application_closes) {
  base::SocketAddress closed;
  {
    closed = tcp_server().address;
  }
  serve(closed);
  const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
  EXPECT_EQ(connect_to(client, kVip), ECONNREFUSED);
  EXPECT_EQ(live_backend().failed, 1U);
  EXPECT_EQ(live_backend().closed, 0U);
}

TEST_F(OutcomeTest, a_black_hole_the_kernel_gives_up_on) {
  const BlackHole hole;
  serve(hole.server.address);
  {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    set_option(client, IPPROTO_TCP, TCP_SYNCNT, 1);
    EXPECT_EQ(connect_to(client, kVip), ETIMEDOUT);
  }
  expect_only(MESH_TIMED_OUT, 0, 1);
}

TEST_F(OutcomeTest, a_black_hole_the_application_gives_up_on) {
  const BlackHole hole;
  serve(hole.server.address);
  {
    const base::Fd client = non_blocking_tcp();
    EXPECT_EQ(connect_to(client, kVip), EINPROGRESS);
    pollfd never{client.get(), POLLOUT, 0};
    EXPECT_EQ(::poll(&never, 1, 1500), 0) << "a SYN is repeated after a second";
  }
  expect_only(MESH_TIMED_OUT, 0, 1);
}

TEST_F(OutcomeTest, given_up_before_it_could_be_answered) {
  const BlackHole hole;
  serve(hole.server.address);
  EXPECT_EQ(connect_to(non_blocking_tcp(), kVip), EINPROGRESS);
  expect_only(MESH_ABORTED, 0, 0);
}

TEST_F(OutcomeTest, no_route_to_the_backend) {
  serve(at("198.51.100.1:80"));
  const int error = connect_to(open_socket(AF_INET, SOCK_STREAM), kVip);
  EXPECT_TRUE(error == ENETUNREACH || error == EHOSTUNREACH) << error;
  expect_only(MESH_UNREACHABLE, 0, 1);
}

TEST_F(OutcomeTest, no_route_to_the_backend_and_asked_again_on_the_same_socket) {
  serve(at("198.51.100.1:80"));
  {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    for (int i = 0; i < 3; ++i) EXPECT_NE(connect_to(client, kVip), 0);
    EXPECT_EQ(owners(), 1U) << owner_texts();
  }
  EXPECT_EQ(owners(), 0U) << owner_texts();
}

TEST_F(OutcomeTest, reset_by_the_peer) {
  const Server server = tcp_server();
  serve(server.address);
  {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    ASSERT_EQ(connect_to(client, kVip), 0);
    {
      const base::Fd peer = accept_from(server);
      set_option(peer, SOL_SOCKET, SO_LINGER, linger{1, 0});
    }
    wait_readable(client);
    char byte;
    EXPECT_EQ(::recv(client.get(), &byte, 1, 0), -1);
    EXPECT_EQ(errno, ECONNRESET);
  }
  expect_only(MESH_RESET, 1, 0);
}

TEST_F(OutcomeTest, reset_by_us_with_linger_0) {
  const Server server = tcp_server();
  serve(server.address);
  {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    ASSERT_EQ(connect_to(client, kVip), 0);
    set_option(client, SOL_SOCKET, SO_LINGER, linger{1, 0});
  }
  expect_only(MESH_RESET_BY_US, 1, 0);
}

TEST_F(OutcomeTest, reset_by_us_with_unread_data) {
  const Server server = tcp_server();
  serve(server.address);
  {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    ASSERT_EQ(connect_to(client, kVip), 0);
    const base::Fd peer = accept_from(server);
    ASSERT_EQ(::send(peer.get(), "unread", 6, 0), 6);
    wait_readable(client);
  }
  expect_only(MESH_RESET_BY_US, 1, 0);
}

TEST_F(OutcomeTest, half_closed_by_the_client_and_answered) {
  const Server server = tcp_server();
  serve(server.address);
  {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    ASSERT_EQ(connect_to(client, kVip), 0);
    {
      const base::Fd peer = accept_from(server);
      ASSERT_EQ(::shutdown(client.get(), SHUT_WR), 0);
      wait_readable(peer);
      char byte;
      EXPECT_EQ(::recv(peer.get(), &byte, 1, 0), 0);
      ASSERT_EQ(::send(peer.get(), "late", 4, 0), 4);
    }
    char buffer[8];
    wait_readable(client);
    EXPECT_EQ(::recv(client.get(), buffer, sizeof(buffer), 0), 4);
    wait_readable(client);
    EXPECT_EQ(::recv(client.get(), buffer, sizeof(buffer), 0), 0);
  }
  expect_only(MESH_CLOSED, 1, 0);
  EXPECT_EQ(outcomes().bytes_in, 4U) << "an end of file is no byte";
}

TEST_F(OutcomeTest, closed_by_the_server_and_the_end_of_file_left_unread) {
  const Server server = tcp_server();
  serve(server.address);
  {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    ASSERT_EQ(connect_to(client, kVip), 0);
    accept_from(server);
    wait_readable(client);
  }
  expect_only(MESH_CLOSED, 1, 0);
}

TEST_F(OutcomeTest, lost_after_it_was_established) {
  const Server server = tcp_server();
  serve(server.address);
  {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    ASSERT_EQ(connect_to(client, kVip), 0);
    set_option(client, IPPROTO_TCP, TCP_USER_TIMEOUT, 300U);
    ASSERT_EQ(run({"ip", "link", "set", "lo", "down"}).code, 0);
    ::send(client.get(), "anybody", 7, MSG_NOSIGNAL);
    wait_readable(client, 10000);
    ASSERT_EQ(run({"ip", "link", "set", "lo", "up"}).code, 0);
  }
  expect_only(MESH_LOST, 1, 0);
}

TEST_F(OutcomeTest, an_inherited_socket_ends_when_the_last_process_closes_it) {
  const Server server = tcp_server();
  serve(server.address);
  pid_t child = -1;
  {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    ASSERT_EQ(connect_to(client, kVip), 0);
    child = ::fork();
    if (child == 0) {
      ::pause();
      ::_exit(0);
    }
  }
  EXPECT_EQ(live_backend().closed, 0U) << "the child has it";
  EXPECT_EQ(owners(), 1U);
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  expect_only(MESH_CLOSED, 1, 0);
}

TEST_F(OutcomeTest, connected_udp_that_is_refused) {
  base::SocketAddress closed;
  {
    closed = udp_server().address;
  }
  serve(closed, IPPROTO_UDP);
  {
    const base::Fd client = open_socket(AF_INET, SOCK_DGRAM);
    ASSERT_EQ(connect_to(client, kVip), 0);
    ASSERT_EQ(::send(client.get(), "x", 1, 0), 1);
    char byte;
    wait_readable(client);
    EXPECT_EQ(::recv(client.get(), &byte, 1, 0), -1);
    EXPECT_EQ(errno, ECONNREFUSED);
  }
  expect_only(MESH_REFUSED, 0, 1);
}

TEST_F(OutcomeTest, a_new_connect_on_the_same_socket_ends_the_record_of_the_old_one) {
  base::SocketAddress closed;
  {
    closed = tcp_server().address;
  }
  serve(closed);
  {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    EXPECT_EQ(connect_to(client, kVip), ECONNREFUSED);
    EXPECT_EQ(connect_to(client, kVip), ECONNREFUSED);
    EXPECT_EQ(live_backend().opened, 2U);
    EXPECT_EQ(live_backend().closed, 1U);
    EXPECT_EQ(owners(), 1U);
  }
  EXPECT_EQ(live_backend().closed, 2U);
  EXPECT_EQ(live_backend().failures_in_row, 2U);
  EXPECT_EQ(outcomes().ended[MESH_REFUSED], 2U);
}

TEST_F(OutcomeTest, a_udp_socket_that_disconnects_and_connects_elsewhere_leaves_nothing_that_lies) {
  const Server server = udp_server(), other = udp_server();
  serve(server.address, IPPROTO_UDP);
  const base::Fd client = open_socket(AF_INET, SOCK_DGRAM);
  ASSERT_EQ(connect_to(client, kVip), 0);
  ASSERT_EQ(disconnect(client), 0);
  ASSERT_EQ(connect_to(client, other.address), 0);
  EXPECT_EQ(owners(), 0U);
  EXPECT_EQ(live_backend().opened, 1U);
  EXPECT_EQ(live_backend().closed, 1U);
  EXPECT_EQ(peer_of(client), other.address);
}

TEST_F(OutcomeTest, without_feedback_only_the_books_are_kept) {
  const Server server = tcp_server();
  const std::uint32_t id = tables_->add_service(kVip, IPPROTO_TCP, {server.address});
  backend_ = tables_->backends_of(id).front();
  {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    ASSERT_EQ(connect_to(client, kVip), 0);
    EXPECT_EQ(peer_of(client), kVip);
  }
  EXPECT_EQ(live_backend().opened, 1U);
  EXPECT_EQ(live_backend().closed, 1U);
  EXPECT_EQ(live_backend().established, 0U);
  ASSERT_GE(::ring_buffer__consume(ring_.get()), 0);
  EXPECT_TRUE(events_.empty());
}

TEST_F(OutcomeTest, a_full_ring_loses_samples_and_no_counts) {
  ring_.reset();
  ASSERT_TRUE(mesh_->detach());
  open([](datapath::DatapathOptions& options) { options.sizes.events = 65536; });
  const Server server = tcp_server();
  serve(server.address);
  constexpr std::uint64_t kConnections = 1000;
  for (std::uint64_t i = 0; i < kConnections; ++i) {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    set_option(client, SOL_SOCKET, SO_LINGER, linger{1, 0});
    ASSERT_EQ(connect_to(client, kVip), 0);
    accept_from(server);
  }
  EXPECT_EQ(live_backend().closed, kConnections);
  EXPECT_EQ(outcomes().ended[MESH_RESET_BY_US] + outcomes().ended[MESH_CLOSED], kConnections);
  ring_.reset(::ring_buffer__new(mesh_->maps().fd(datapath::Table::kEvents), &OutcomeTest::keep, this, nullptr));
  ASSERT_GE(::ring_buffer__consume(ring_.get()), 0);
  EXPECT_GT(reason(MESH_REASON_EVENTS_DROPPED), 0U);
  EXPECT_EQ(events_.size() + reason(MESH_REASON_EVENTS_DROPPED), kConnections);
}

}  // namespace
}  // namespace mesh::test
