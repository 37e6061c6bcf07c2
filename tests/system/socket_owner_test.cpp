// SPDX-License-Identifier: Apache-2.0
// Who made a socket, as this kernel says it; and others who would like to say it.
#include "relay/socket_owner.hpp"

#include <gtest/gtest.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "app/outbound_sockets.hpp"
#include "base/clock.hpp"
#include "relay/listen.hpp"
#include "tests/support/sandbox.hpp"

namespace mesh::test {
namespace {

constexpr std::uint32_t kForgedUser = 4242;

class SocketOwnerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = Sandbox::unavailable(); !why.empty()) GTEST_SKIP() << why;
    netns_.emplace();
    cgroup_.emplace("owner");
    cgroup_->enter();
    listener_ = *relay::listen_on({.ip = {}, .port = 15400});
    connect(AF_INET, "127.0.0.1");
  }
  void connect(int family, const char* to) {
    const base::SocketAddress address{*base::IpAddress::parse(to), 15400};
    client_.reset(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage storage{};
    socklen_t length = address.to_sockaddr(storage);
    if (family == AF_INET6) {
      sockaddr_in6 six{};
      six.sin6_family = AF_INET6;
      six.sin6_port = htons(address.port);
      std::memcpy(&six.sin6_addr, address.ip.bytes.data(), sizeof(six.sin6_addr));
      std::memcpy(&storage, &six, length = sizeof(six));
    }
    ASSERT_EQ(::connect(client_.get(), reinterpret_cast<const sockaddr*>(&storage), length), 0) << std::strerror(errno);
    accepted_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(accepted_.valid()) << std::strerror(errno);
  }
  /// A way to ask that is not connected to the kernel, as agents of before made them.
  static std::shared_ptr<base::Fd> open_unconnected() {
    auto fd =
        std::make_shared<base::Fd>(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG));
    sockaddr_nl any{};
    any.nl_family = AF_NETLINK;
    EXPECT_EQ(::bind(fd->get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)), 0);
    return fd;
  }
  /// An answer to the first question that is asked by `asker`, by somebody who is not the kernel; how that failed.
  int forge(const base::Fd& asker) const {
    struct {
      nlmsghdr header{};
      inet_diag_msg message{};
      rtattr attribute{.rta_len = RTA_LENGTH(sizeof(std::uint64_t)), .rta_type = INET_DIAG_CGROUP_ID};
      std::uint32_t cgroup[2] = {1, 0};
    } forged;
    forged.header = {.nlmsg_len = sizeof(forged),
                     .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                     .nlmsg_flags = 0,
                     .nlmsg_seq = 1,
                     .nlmsg_pid = 0};
    sockaddr_in own{};
    socklen_t length = sizeof(own);
    ::getsockname(client_.get(), reinterpret_cast<sockaddr*>(&own), &length);
    inet_diag_msg& message = forged.message;
    message.idiag_family = AF_INET;
    message.idiag_state = TCP_ESTABLISHED;
    message.id.idiag_sport = own.sin_port;
    message.id.idiag_dport = htons(15400);
    message.id.idiag_src[0] = message.id.idiag_dst[0] = htonl(INADDR_LOOPBACK);
    message.idiag_uid = kForgedUser;
    message.idiag_inode = 1;
    sockaddr_nl to{};
    length = sizeof(to);
    ::getsockname(asker.get(), reinterpret_cast<sockaddr*>(&to), &length);
    const base::Fd forger(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
    const ssize_t sent = ::sendto(forger.get(), &forged, sizeof(forged), MSG_DONTWAIT,
                                  reinterpret_cast<const sockaddr*>(&to), sizeof(to));
    return sent == sizeof(forged) ? 0 : errno;
  }
  [[nodiscard]] relay::SocketOwners owners(std::shared_ptr<base::Fd> diag) const {
    return {std::move(diag), std::make_shared<relay::CgroupNames>(Cgroup::root())};
  }
  void expect_me(const base::Result<relay::Owner>& owner) const {
    ASSERT_TRUE(owner) << owner.error().to_string();
    EXPECT_EQ(owner->cgroup, cgroup_->path());
    EXPECT_EQ(owner->uid, ::getuid());
  }

  std::optional<NetNs> netns_;
  std::optional<Cgroup> cgroup_;
  base::Fd listener_;
  base::Fd client_;
  base::Fd accepted_;
  app::OutboundSockets sockets_{[](int) { return base::Result<void>(); }};
};

TEST_F(SocketOwnerTest, the_kernel_says_who_made_sockets_of_all_kinds) {
  auto asking = owners(std::make_shared<base::Fd>(*sockets_.open_owner_socket(listener_.get())));
  expect_me(asking.find(accepted_.get()));
  connect(AF_INET6, "127.0.0.1");
  expect_me(asking.find(accepted_.get()));
  connect(AF_INET6, "::1");
  expect_me(asking.find(accepted_.get()));
  ::shutdown(client_.get(), SHUT_WR);
  expect_me(asking.find(accepted_.get()));
  client_.reset();
  const auto closed = asking.find(accepted_.get());
  EXPECT_TRUE(closed ? !closed->uid : closed.error().kind == base::ErrorKind::kNotFound)
      << "nobody's, and not root's; how long the kernel keeps it depends on when the end is acknowledged";
  connect(AF_INET, "127.0.0.1");
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(client_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  client_.reset();
  pollfd ended{.fd = accepted_.get(), .events = 0, .revents = 0};
  ASSERT_EQ(::poll(&ended, 1, 5000), 1);
  const auto gone = asking.find(accepted_.get());
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().kind, base::ErrorKind::kNotFound) << gone.error().to_string();
}

TEST_F(SocketOwnerTest, nobody_but_the_kernel_gets_a_message_into_the_socket_that_asks) {
  const auto diag = std::make_shared<base::Fd>(*sockets_.open_owner_socket(listener_.get()));
  EXPECT_EQ(forge(*diag), ECONNREFUSED);
  expect_me(owners(diag).find(accepted_.get()));
}

TEST_F(SocketOwnerTest, what_somebody_else_says_does_not_count) {
  const auto diag = open_unconnected();
  ASSERT_EQ(forge(*diag), 0);
  auto asking = owners(diag);
  expect_me(asking.find(accepted_.get()));
  for (int i = 0; i < relay::SocketOwners::kMessagesMax; ++i) ASSERT_EQ(forge(*diag), 0) << i;
  const auto none = asking.find(accepted_.get());
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind, base::ErrorKind::kExhausted) << none.error().to_string();
  expect_me(asking.find(accepted_.get()));
}

}  // namespace
}  // namespace mesh::test
