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
