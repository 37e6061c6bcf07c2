// SPDX-License-Identifier: Apache-2.0
// Services that the agent answers itself: only where a socket that it marked is there.
#include <netinet/in.h>
#include <sys/socket.h>

#include "datapath/listeners.hpp"
#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

/// A server with an address of its own, and in front of it a listener that may be the agent's.
class ListenerTest : public MeshTest {
 protected:
  void serve(const Server& real, const Server& listener, std::uint8_t protocol) {
    const std::uint32_t id = tables_->add_service(real.address, protocol, {listener.address});
    tables_->set_backend_flags(tables_->backends_of(id)[0], MESH_BACKEND_USABLE | MESH_BACKEND_LISTENER);
  }
  /// The same for the relay, which nobody reaches it without.
  std::uint32_t relayed(const Server& real, const Server& relay) {
    const std::uint32_t id = tables_->add_service(real.address, IPPROTO_TCP, {relay.address});
    tables_->set_backend_flags(tables_->backends_of(id)[0], MESH_BACKEND_USABLE | MESH_BACKEND_RELAY);
    mesh_service service = mesh_->store().service(id);
    service.flags |= MESH_SERVICE_TLS;
    EXPECT_TRUE(mesh_->store().write_service(id, service));
    return id;
  }
  void mark(const Server& listener) {
    const auto marked = datapath::mark_listener(mesh_->maps(), listener.fd.get());
    ASSERT_TRUE(marked) << marked.error().to_string();
  }
  /// Who accepts a connection to `address`: "real" or "listener".
  static std::string who_accepts(const Server& real, const Server& listener) {
    const base::Fd fd = open_socket(real.address.ip.is_v4() ? AF_INET : AF_INET6, SOCK_STREAM);
    EXPECT_EQ(connect_to(fd, real.address), 0);
    EXPECT_EQ(peer_of(fd), real.address) << "whoever it is, it looks like the one that was asked for";
    const auto accepts = [](const Server& server) {
      return base::Fd(::accept4(server.fd.get(), nullptr, nullptr, SOCK_NONBLOCK)).valid();
    };
    const timeval at_once{0, 1000};
    for (const Server* server : {&real, &listener}) {
      ::setsockopt(server->fd.get(), SOL_SOCKET, SO_RCVTIMEO, &at_once, sizeof(at_once));
    }
    return accepts(real) ? "real" : accepts(listener) ? "listener" : "nobody";
  }
  int listening_ = -1;  ///< What a connection has to arrive at.
  /// Who gets a datagram that is sent to `real` without connect().
  static std::string who_gets(const base::Fd& fd, const Server& real, const Server& listener) {
    EXPECT_EQ(send_to(fd, real.address, "question"), 0);
    const Datagram first = receive(real.fd, 20);
    const Datagram second = first.error != 0 ? receive(listener.fd, 200) : Datagram{};
    if (first.error != 0 && second.text != "question") return "nobody";
    const Datagram& got = first.error == 0 ? first : second;
    EXPECT_EQ(send_to(first.error == 0 ? real.fd : listener.fd, got.from, "answer"), 0);
    EXPECT_EQ(receive(fd).from, real.address);
    return first.error == 0 ? "real" : "listener";
  }
};

TEST_F(ListenerTest, a_connection_goes_to_it_while_it_is_there) {
  for (const char* ip : {"127.0.0.1", "::1"}) {
    SCOPED_TRACE(ip);
    const Server real = tcp_server(ip);
    Server listener = tcp_server(ip);
    serve(real, listener, IPPROTO_TCP);
    EXPECT_EQ(who_accepts(real, listener), "real") << "somebody's socket is not the agent's";
    mark(listener);
    EXPECT_EQ(who_accepts(real, listener), "listener");
    listener.fd.reset();
    EXPECT_EQ(who_accepts(real, listener), "real") << "the agent is gone";
  }
  EXPECT_EQ(reason(MESH_REASON_LISTENER_ABSENT), 4U);
}

TEST_F(ListenerTest, what_must_go_to_the_relay_is_refused_unless_its_own_socket_is_there) {
  std::uint64_t refused = 0;
  const auto connects = [&](int family, const base::SocketAddress& address, const base::SocketAddress& arrives) {
    const base::Fd fd = open_socket(family, SOCK_STREAM);
    const int error = connect_to(fd, address);
    if (error == 0) {
      EXPECT_EQ(peer_of(fd), address);
      sockaddr_storage real{};
      socklen_t length = sizeof(real);
      const base::Fd accepted(::accept4(listening_, reinterpret_cast<sockaddr*>(&real), &length, SOCK_NONBLOCK));
      EXPECT_TRUE(accepted.valid()) << "not at " << arrives.to_string();
    }
    refused += error == ECONNREFUSED;
    return error;
  };
  for (const char* ip : {"127.0.0.1", "::1"}) {
    SCOPED_TRACE(ip);
    const int family = std::string(ip) == "::1" ? AF_INET6 : AF_INET;
    const Server real = tcp_server(ip);  // somebody who would take the bytes as they are
    Server relay = tcp_server(ip);
    listening_ = relay.fd.get();
    relayed(real, relay);
    EXPECT_EQ(connects(family, real.address, relay.address), ECONNREFUSED) << "an impostor has the port";
    mark(relay);
    EXPECT_EQ(connects(family, real.address, relay.address), 0);
    const base::Fd bound = open_socket(family, SOCK_STREAM);
    ASSERT_EQ(::setsockopt(bound.get(), SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), 0);
    EXPECT_EQ(connect_to(bound, real.address), ECONNREFUSED) << "it might not reach the relay";
    ++refused;
    relay.fd.reset();
    EXPECT_EQ(connects(family, real.address, relay.address), ECONNREFUSED) << "nobody is there";
    const Server impostor = tcp_server(ip, relay.address.port);
    EXPECT_EQ(connects(family, real.address, relay.address), ECONNREFUSED) << "a mark does not outlive its socket";
  }
  const Server real = tcp_server(), relay = tcp_server();
  listening_ = relay.fd.get();
  relayed(real, relay);
  mark(relay);
  EXPECT_EQ(connects(AF_INET6, real.address, relay.address), 0) << "IPv4 through an IPv6 socket";
  EXPECT_EQ(reason(MESH_REASON_RELAY_ABSENT), refused);
  EXPECT_EQ(reason(MESH_REASON_LISTENER_ABSENT), 0U);
}

TEST_F(ListenerTest, a_pause_does_not_let_out_what_must_not_go_without_tls) {
  const Server real = tcp_server(), relay = tcp_server(), plain = tcp_server();
  const std::uint32_t id = relayed(real, relay);
  const std::uint32_t other = tables_->add_service(plain.address, IPPROTO_TCP, {});
  mark(relay);
  const auto connect = [](const Server& to) { return connect_to(open_socket(AF_INET, SOCK_STREAM), to.address); };
  EXPECT_EQ(connect(real), 0);
  mesh_->pause_service(id, MESH_FOREVER);
  mesh_->pause_service(other, MESH_FOREVER);
  EXPECT_EQ(connect(real), ECONNREFUSED);
  EXPECT_EQ(connect(plain), 0);
  mesh_->pause_service(id, 0);
  mesh_->pause_all(MESH_FOREVER);
  EXPECT_EQ(connect(real), ECONNREFUSED);
  EXPECT_EQ(connect(plain), 0);
  mesh_->pause_all(0);
  EXPECT_EQ(connect(real), 0);
  EXPECT_EQ(reason(MESH_REASON_TLS_PAUSED), 2U);
  EXPECT_EQ(live(id).refused, 2U);
}

TEST_F(ListenerTest, so_does_a_datagram_also_of_a_socket_that_sent_before) {
  for (const char* ip : {"127.0.0.1", "::1"}) {
    SCOPED_TRACE(ip);
    const Server real = udp_server(ip);
    Server listener = udp_server(ip);
    serve(real, listener, IPPROTO_UDP);
    const base::Fd fd = open_socket(real.address.ip.is_v4() ? AF_INET : AF_INET6, SOCK_DGRAM);
    EXPECT_EQ(who_gets(fd, real, listener), "real");
    mark(listener);
    EXPECT_EQ(who_gets(fd, real, listener), "listener");
    EXPECT_EQ(who_gets(fd, real, listener), "listener");
    listener.fd.reset();
    EXPECT_EQ(who_gets(fd, real, listener), "real") << "the agent is gone";
  }
}

TEST_F(ListenerTest, ipv4_through_an_ipv6_socket_goes_to_it_too) {
  const Server real = udp_server(), listener = udp_server();
  serve(real, listener, IPPROTO_UDP);
  mark(listener);
  EXPECT_EQ(who_gets(open_socket(AF_INET6, SOCK_DGRAM), real, listener), "listener");
}

TEST_F(ListenerTest, a_socket_that_is_bound_to_a_device_is_left_alone) {
  const Server real = udp_server(), listener = udp_server();
  serve(real, listener, IPPROTO_UDP);
  mark(listener);
  const base::Fd fd = open_socket(AF_INET, SOCK_DGRAM);
  ASSERT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), 0);
  EXPECT_EQ(who_gets(fd, real, listener), "real");
}

}  // namespace
}  // namespace mesh::test
