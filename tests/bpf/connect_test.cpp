// SPDX-License-Identifier: Apache-2.0
// connect() and getpeername() through the real hooks, for every kind of socket.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

constexpr std::uint8_t kTcp = IPPROTO_TCP;
constexpr std::uint8_t kUdp = IPPROTO_UDP;
const base::SocketAddress kVip4 = at("240.64.0.10:80");
const base::SocketAddress kVip6 = at("[fd00:6d::10]:80");

class ConnectTest : public MeshTest {};

struct Row {
  const char* description;
  int family, type, protocol;
  bool v6_service;
};

TEST_F(ConnectTest, every_connected_socket_reaches_the_backend_and_sees_the_service) {
  const Server tcp4 = tcp_server("127.0.0.1"), tcp6 = tcp_server("::1");
  const Server udp4 = udp_server("127.0.0.1"), udp6 = udp_server("::1");
  tables_->add_service(kVip4, kTcp, {tcp4.address});
  tables_->add_service(kVip6, kTcp, {tcp6.address});
  tables_->add_service(kVip4, kUdp, {udp4.address});
  tables_->add_service(kVip6, kUdp, {udp6.address});
  const Row rows[] = {
      {"TCP over IPv4", AF_INET, SOCK_STREAM, 0, false},
      {"TCP over IPv6", AF_INET6, SOCK_STREAM, 0, true},
      {"TCP over IPv4 through an AF_INET6 socket", AF_INET6, SOCK_STREAM, 0, false},
      {"connected UDP over IPv4", AF_INET, SOCK_DGRAM, 0, false},
      {"connected UDP over IPv6", AF_INET6, SOCK_DGRAM, 0, true},
      {"connected UDP over IPv4 through an AF_INET6 socket", AF_INET6, SOCK_DGRAM, 0, false},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.description);
    const base::SocketAddress& vip = row.v6_service ? kVip6 : kVip4;
    const base::Fd fd = open_socket(row.family, row.type, row.protocol);
    ASSERT_EQ(connect_to(fd, vip), 0);
    EXPECT_EQ(peer_of(fd), vip);
    EXPECT_EQ(owners(), 1U);
    if (row.type == SOCK_DGRAM) {
      ASSERT_EQ(::send(fd.get(), "ping", 4, 0), 4);
      const Server& server = row.v6_service ? udp6 : udp4;
      const Datagram at_server = receive(server.fd);
      EXPECT_EQ(at_server.text, "ping");
      ASSERT_EQ(send_to(server.fd, at_server.from, "pong"), 0);
      const Datagram reply = receive(fd);
      EXPECT_EQ(reply.text, "pong");
      EXPECT_EQ(reply.from, vip) << "recvfrom() on a connected socket says the service too";
    }
  }
  EXPECT_EQ(owners(), 0U) << "closed sockets leave no record";
}

TEST_F(ConnectTest, a_destination_that_is_no_service_is_untouched) {
  const Server server = tcp_server();
  tables_->add_service(kVip4, kTcp, {server.address});
  const base::Fd fd = open_socket(AF_INET, SOCK_STREAM);
  ASSERT_EQ(connect_to(fd, server.address), 0);
  EXPECT_EQ(peer_of(fd), server.address);
  const base::Fd other_port = open_socket(AF_INET, SOCK_STREAM);
  EXPECT_NE(connect_to(other_port, at("240.64.0.10:81")), 0) << "same address, another port: not the service";
  EXPECT_EQ(owners(), 0U);
}

TEST_F(ConnectTest, a_service_without_backends_refuses_at_once) {
  const std::uint32_t id = tables_->add_service(kVip4, kTcp, {});
  const base::Fd fd = open_socket(AF_INET, SOCK_STREAM);
  EXPECT_EQ(connect_to(fd, kVip4), ECONNREFUSED);
  EXPECT_EQ(reason(MESH_REASON_NO_BACKEND), 1U);
  EXPECT_EQ(live(id).refused, 1U);
  EXPECT_EQ(live(id).refused_no_backend, 1U);
}

TEST_F(ConnectTest, round_robin_takes_turns) {
  const Server a = tcp_server(), b = tcp_server(), c = tcp_server();
  const std::uint32_t id = tables_->add_service(kVip4, kTcp, {a.address, b.address, c.address});
  for (int i = 0; i < 9; ++i) ASSERT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), kVip4), 0);
  for (const std::uint32_t backend : tables_->backends_of(id)) EXPECT_EQ(opened(backend), 3U);
  EXPECT_EQ(live(id).connects, 9U);
}

TEST_F(ConnectTest, counters_belong_to_the_identity_that_has_the_id) {
  const Server server = tcp_server();
  const std::uint32_t service = tables_->add_service(kVip4, kTcp, {server.address});
  const std::uint32_t id = tables_->backends_of(service)[0];
  ASSERT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), kVip4), 0);
  tables_->set_backend_flags(id, 0);
  tables_->set_backend_flags(id, MESH_BACKEND_USABLE);
  EXPECT_EQ(opened(id), 1U) << "the same one in another state";
  mesh_backend next = mesh_->store().backend(id);
  ++next.generation;
  ASSERT_TRUE(mesh_->store().write_backend(id, next));
  EXPECT_EQ(opened(id), 0U);
  std::vector<std::byte> outcomes(sizeof(mesh_backend_outcomes), std::byte{1});
  ASSERT_EQ(::bpf_map_lookup_elem(mesh_->maps().fd(datapath::Table::kBackendOutcomes), &id, outcomes.data()), 0);
  EXPECT_TRUE(std::ranges::all_of(outcomes, [](std::byte b) { return b == std::byte{0}; }));
  ASSERT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), kVip4), 0);
  EXPECT_EQ(opened(id), 1U);
}

TEST_F(ConnectTest, counters_of_a_service_are_not_those_of_the_one_that_had_its_id) {
  const Server server = tcp_server();
  const std::uint32_t id = tables_->add_service(kVip4, kTcp, {server.address});
  ASSERT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), kVip4), 0);
  mesh_service service = mesh_->store().service(id);
  ASSERT_TRUE(mesh_->store().write_service(id, service));
  EXPECT_EQ(live(id).connects, 1U) << "the same one, written again";
  ASSERT_TRUE(mesh_->store().write_service(id, {}));
  service.frontend = key_of(at("240.64.0.99:80"), kTcp);
  ASSERT_TRUE(mesh_->store().write_service(id, service));
  EXPECT_EQ(live(id).connects, 0U);
}

TEST_F(ConnectTest, v6only_sockets_behave_as_without_a_mesh) {
  const Server tcp6 = tcp_server("::1"), tcp4 = tcp_server();
  tables_->add_service(kVip6, kTcp, {tcp6.address});
  tables_->add_service(kVip4, kTcp, {tcp4.address});
  const auto v6only = [] {
    base::Fd fd = open_socket(AF_INET6, SOCK_STREAM);
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    return fd;
  };
  const base::Fd fd = v6only();
  ASSERT_EQ(connect_to(fd, kVip6), 0);
  EXPECT_EQ(peer_of(fd), kVip6);
  EXPECT_EQ(connect_to(v6only(), kVip4), connect_to(v6only(), tcp4.address))
      << "the same error as for any IPv4 address";
}

TEST_F(ConnectTest, mptcp_reaches_the_backend_and_leaves_no_record) {
  const Server server = tcp_server();
  tables_->add_service(kVip4, kTcp, {server.address});
  {
    const base::Fd fd = open_socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
    if (!fd.valid()) GTEST_SKIP() << "SKIPPED: the kernel has no MPTCP";
    ASSERT_EQ(connect_to(fd, kVip4), 0);
    EXPECT_EQ(peer_of(fd), kVip4);
    EXPECT_EQ(owners(), 1U);
  }
  EXPECT_EQ(owners(), 0U);
}

TEST_F(ConnectTest, tcp_fast_open_reaches_the_backend) {
  const Server server = tcp_server();
  tables_->add_service(kVip4, kTcp, {server.address});
  const base::Fd fd = open_socket(AF_INET, SOCK_STREAM);
  sockaddr_storage storage{};
  const socklen_t length = kVip4.to_sockaddr(storage);
  ASSERT_EQ(::sendto(fd.get(), "hi", 2, MSG_FASTOPEN, reinterpret_cast<sockaddr*>(&storage), length), 2);
  EXPECT_EQ(peer_of(fd), kVip4);
  const base::Fd accepted(::accept(server.fd.get(), nullptr, nullptr));
  char buffer[8];
  EXPECT_EQ(::recv(accepted.get(), buffer, sizeof(buffer), 0), 2);
}

TEST_F(ConnectTest, udp_connect_twice_follows_the_last_one) {
  const Server a = udp_server(), b = udp_server();
  const base::SocketAddress other_vip = at("240.64.0.11:53");
  tables_->add_service(kVip4, kUdp, {a.address});
  tables_->add_service(other_vip, kUdp, {b.address});
  const base::Fd fd = open_socket(AF_INET, SOCK_DGRAM);
  ASSERT_EQ(connect_to(fd, kVip4), 0);
  EXPECT_EQ(peer_of(fd), kVip4);
  ASSERT_EQ(connect_to(fd, other_vip), 0);
  EXPECT_EQ(peer_of(fd), other_vip);
  EXPECT_EQ(owners(), 1U);
  ASSERT_EQ(connect_to(fd, a.address), 0);
  EXPECT_EQ(peer_of(fd), a.address) << "connected to the backend itself now: the old record must not lie";
  EXPECT_EQ(owners(), 0U);
}

TEST_F(ConnectTest, after_af_unspec_a_backend_is_a_backend) {
  const Server tcp = tcp_server(), udp = udp_server();
  tables_->add_service(kVip4, kTcp, {tcp.address});
  tables_->add_service(kVip4, kUdp, {udp.address});
  for (const auto& [type, direct] : {std::pair{SOCK_STREAM, tcp.address}, {SOCK_DGRAM, udp.address}}) {
    SCOPED_TRACE(type == SOCK_STREAM ? "TCP" : "UDP");
    const base::Fd fd = open_socket(AF_INET, type);
    ASSERT_EQ(connect_to(fd, kVip4), 0);
    ASSERT_EQ(disconnect(fd), 0);
    EXPECT_EQ(peer_of(fd).port, 0);
    ASSERT_EQ(connect_to(fd, direct), 0);
    EXPECT_EQ(peer_of(fd), direct);
    ASSERT_EQ(disconnect(fd), 0);
    ASSERT_EQ(connect_to(fd, kVip4), 0);
    EXPECT_EQ(peer_of(fd), kVip4);
  }
}

TEST_F(ConnectTest, a_retry_after_a_refusal_is_balanced_again) {
  base::SocketAddress closed;
  {
    closed = tcp_server().address;
  }
  const Server open_one = tcp_server();
  tables_->add_service(kVip4, kTcp, {closed, open_one.address});
  const base::Fd fd = open_socket(AF_INET, SOCK_STREAM);
  EXPECT_EQ(connect_to(fd, kVip4), ECONNREFUSED) << "the first in turn does not listen";
  EXPECT_EQ(connect_to(fd, kVip4), 0);
  EXPECT_EQ(peer_of(fd), kVip4);
  EXPECT_EQ(owners(), 1U);
}

TEST_F(ConnectTest, a_non_blocking_connect_asked_again_is_one_connection) {
  const Server server = tcp_server();
  const std::uint32_t id = tables_->add_service(kVip4, kTcp, {server.address});
  const base::Fd fd = open_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  const int first = connect_to(fd, kVip4);
  EXPECT_TRUE(first == EINPROGRESS || first == 0) << first;
  for (int i = 0; i < 3; ++i) {
    const int again = connect_to(fd, kVip4);
    EXPECT_TRUE(again == 0 || again == EISCONN || again == EALREADY) << again;
  }
  EXPECT_EQ(peer_of(fd), kVip4);
  EXPECT_EQ(live(id).connects, 1U);
}

TEST_F(ConnectTest, the_mesh_switched_off_leaves_everything_alone) {
  const Server server = tcp_server();
  tables_->add_service(server.address, kTcp, {});  // a service at a real address, refused while the mesh is on
  EXPECT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), server.address), ECONNREFUSED);
  mesh_->pause_all(MESH_FOREVER);
  EXPECT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), server.address), 0);
  mesh_->pause_all(1);  // a time long past: the pause has ended by itself
  EXPECT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), server.address), ECONNREFUSED);
  mesh_->pause_all(0);
  EXPECT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), server.address), ECONNREFUSED);
}

TEST_F(ConnectTest, a_record_is_dropped_when_its_socket_closes_even_while_switched_off) {
  const Server server = tcp_server();
  tables_->add_service(kVip4, kTcp, {server.address});
  base::Fd fd = open_socket(AF_INET, SOCK_STREAM);
  ASSERT_EQ(connect_to(fd, kVip4), 0);
  mesh_->pause_all(MESH_FOREVER);
  fd.reset();
  EXPECT_EQ(owners(), 0U);
}

TEST_F(ConnectTest, one_paused_service_passes_and_another_does_not) {
  const Server server = tcp_server(), other = tcp_server();
  const std::uint32_t paused = tables_->add_service(server.address, kTcp, {});
  tables_->add_service(other.address, kTcp, {});
  mesh_->pause_service(paused, MESH_FOREVER);
  EXPECT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), server.address), 0);
  EXPECT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), other.address), ECONNREFUSED);
  EXPECT_EQ(live(paused).passed, 1U);
  EXPECT_EQ(reason(MESH_REASON_PAUSED), 1U);
  mesh_->pause_service(paused, 0);
  EXPECT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), server.address), ECONNREFUSED);
}

TEST_F(ConnectTest, the_exempt_cgroup_and_only_it_is_not_redirected) {
  const Server server = tcp_server();
  tables_->add_service(server.address, kTcp, {});
  const Cgroup agent("agent", &sandbox_->cgroup), sibling("sibling", &sandbox_->cgroup);
  mesh_.reset();
  open([&](datapath::DatapathOptions& options) { options.exempt_cgroup_id = agent.id(); });
  agent.enter();
  EXPECT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), server.address), 0);
  EXPECT_EQ(reason(MESH_REASON_EXEMPT), 1U);
  sibling.enter();
  EXPECT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), server.address), ECONNREFUSED);
}

TEST_F(ConnectTest, so_is_the_cgroup_of_the_relay_which_comes_and_goes) {
  const Server server = tcp_server();
  tables_->add_service(server.address, kTcp, {});
  const Cgroup relay("relay", &sandbox_->cgroup);
  relay.enter();
  const auto connect = [&] { return connect_to(open_socket(AF_INET, SOCK_STREAM), server.address); };
  EXPECT_EQ(connect(), ECONNREFUSED);
  mesh_->exempt_relay(relay.id());
  EXPECT_EQ(connect(), 0);
  mesh_->exempt_relay(0);
  EXPECT_EQ(connect(), ECONNREFUSED);
}

TEST_F(ConnectTest, a_full_owner_map_costs_only_the_name) {
  const Server server = tcp_server();
  const std::uint32_t id = tables_->add_service(kVip4, kTcp, {server.address});
  mesh_.reset();
  open([](datapath::DatapathOptions& options) { options.sizes.owners = 64; });
  std::vector<base::Fd> sockets;
  for (int i = 0; i < 200; ++i) {
    sockets.push_back(open_socket(AF_INET, SOCK_STREAM));
    ASSERT_EQ(connect_to(sockets.back(), kVip4), 0);
  }
  const std::uint64_t full = reason(MESH_REASON_OWNER_FULL);
  EXPECT_EQ(owners() + full, 200U);
  EXPECT_GT(full, 0U);
  EXPECT_EQ(live(id).connects, 200U);
  EXPECT_EQ(peer_of(sockets.back()), server.address) << "the truth, for want of a record";
  EXPECT_EQ(peer_of(sockets.front()), kVip4);
}

TEST_F(ConnectTest, frontends_full_says_which_setting) {
  mesh_.reset();
  ASSERT_TRUE(datapath::detach_all(sandbox_->pins()));
  open([](datapath::DatapathOptions& options) { options.sizes.services = 32; });
  base::Result<void> last;
  for (int port = 1; port <= 100 && last; ++port) {
    last = mesh_->store().write_frontend(key_of(at("240.64.0.1:" + std::to_string(port)), kTcp), 1);
  }
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error().kind, base::ErrorKind::kExhausted);
  EXPECT_NE(last.error().to_string().find("agent.limits.services"), std::string::npos) << last.error().to_string();
}

TEST_F(ConnectTest, a_zeroed_or_foreign_entry_is_refused_and_counted) {
  const Server server = tcp_server();
  const std::uint32_t id = tables_->add_service(kVip4, kTcp, {server.address});
  const auto connect = [] { return connect_to(open_socket(AF_INET, SOCK_STREAM), kVip4); };
  const std::uint64_t good = mesh_->store().state(id);
  ASSERT_TRUE(mesh_->store().store_state(id, 0));
  EXPECT_EQ(connect(), ECONNREFUSED);
  EXPECT_EQ(reason(MESH_REASON_STATE_ZERO), 1U);

  ASSERT_TRUE(mesh_->store().store_state(id, 0xffffff));
  EXPECT_EQ(connect(), ECONNREFUSED);
  EXPECT_EQ(reason(MESH_REASON_BAD_RANGE), 1U);

  const Server elsewhere = tcp_server();
  const std::uint32_t other = tables_->add_service(at("240.64.0.11:80"), kTcp, {elsewhere.address});
  ASSERT_TRUE(mesh_->store().store_state(id, mesh_->store().state(other)));
  EXPECT_EQ(connect(), ECONNREFUSED) << "another service's range";
  EXPECT_EQ(reason(MESH_REASON_RETRIED), 1U);
  EXPECT_EQ(reason(MESH_REASON_STALE_SLOT), 1U);

  ASSERT_TRUE(mesh_->store().store_state(id, good));
  ASSERT_TRUE(mesh_->store().write_frontend(key_of(kVip4, kTcp), other));
  EXPECT_NE(connect(), 0) << "treated as no service: nobody is at that address";
  EXPECT_EQ(reason(MESH_REASON_FOREIGN_FRONTEND), 1U);
  EXPECT_EQ(live(other).connects, 0U);
}

}  // namespace
}  // namespace mesh::test
