// SPDX-License-Identifier: Apache-2.0
#include "discovery/zookeeper.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/clock.hpp"
#include "base/fd.hpp"

namespace mesh::discovery {
namespace {

using base::ErrorKind;
using base::TimePoint;
using std::chrono::milliseconds;
using namespace std::chrono_literals;

constexpr milliseconds kMaxConnect = 5s;  // name, connect and welcome of one server
constexpr std::size_t kMaxAuthFile = 4096;
constexpr std::size_t kReadBytes = 64 << 10;
constexpr auto kAuthPause = 30s;  // before a password is tried again
constexpr auto kNever = TimePoint::max();

int poll_time(TimePoint until) {
  const auto left = std::chrono::ceil<milliseconds>(until - base::steady_now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000));
}

/// Waits for one descriptor; kTimeout after `until`, kUnavailable if the client has to come to its end.
base::Result<void> wait_for(int fd, short events, TimePoint until, const Feed& feed, const std::string& doing) {
  std::array<pollfd, 2> waits{{{fd, events, 0}, {feed.wake_fd(), POLLIN, 0}}};
  while (true) {
    ::poll(waits.data(), waits.size(), poll_time(until));
    if (waits[1].revents != 0) return base::fail(ErrorKind::kUnavailable, doing + ": stopped");
    if (waits[0].revents != 0) return {};
    if (base::steady_now() >= until) return base::fail(ErrorKind::kTimeout, doing + ": no answer");
  }
}

/// getaddrinfo() can't be ended, so it runs on a thread that is left alone when the time is over.
base::Result<std::vector<base::SocketAddress>> resolve(const std::string& host, const std::string& port,
                                                       TimePoint until, const Feed& feed) {
  if (const auto ip = base::IpAddress::parse(host)) {
    return std::vector{base::SocketAddress{*ip, static_cast<std::uint16_t>(std::stoul(port))}};
  }
  struct Shared {
    base::Fd done{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    std::mutex mutex;
    int problem = 0;
    std::vector<base::SocketAddress> found;
  };
  const auto shared = std::make_shared<Shared>();
  std::thread([shared, host, port] {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    const int problem = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &list);
    {
      const std::lock_guard lock(shared->mutex);
      shared->problem = problem;
      for (const addrinfo* one = list; problem == 0 && one != nullptr; one = one->ai_next) {
        sockaddr_storage storage{};
        std::memcpy(&storage, one->ai_addr, one->ai_addrlen);
        shared->found.push_back(base::SocketAddress::from_sockaddr(storage));
      }
    }
    if (problem == 0) ::freeaddrinfo(list);
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(shared->done.get(), &one, sizeof(one));
  }).detach();
  MESH_CHECK(wait_for(shared->done.get(), POLLIN, until, feed, "resolve '" + host + "' of ZooKeeper"));
  const std::lock_guard lock(shared->mutex);
  if (shared->problem == 0) return std::move(shared->found);
  return base::fail(ErrorKind::kUnavailable, "resolve '" + host + "' of ZooKeeper: " + ::gai_strerror(shared->problem),
                    "check the name in servers");
}

base::Result<base::Fd> connect_to(const base::SocketAddress& address, TimePoint until, const Feed& feed,
                                  const std::string& doing) {
  sockaddr_storage storage{};
  const socklen_t length = address.to_sockaddr(storage);
  base::Fd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return base::fail_errno(errno, doing);
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  int problem = 0;
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0) {
    problem = errno;
    if (problem == EINPROGRESS) {
      MESH_CHECK(wait_for(fd.get(), POLLOUT, until, feed, doing));
      socklen_t size = sizeof(problem);
      ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &problem, &size);
    }
  }
  if (problem != 0) return base::fail(ErrorKind::kUnavailable, doing + ": " + ::strerror(problem));
  return fd;
}

/// A connection with a session.
class Link {
 public:
  struct Opened {
    base::Result<void> result;
    bool refused = false;  ///< The server closed it in place of a welcome.
  };

  Link(const ZookeeperSettings& settings, const std::string& server, const Feed& feed)
      : settings_(settings), server_(server), feed_(feed) {}

  Opened open(std::int64_t last_zxid) {
    Opened opened{.result = {}};
    opened.result = connect();
    if (!opened.result) return opened;
    send(zookeeper_hello(last_zxid, static_cast<std::int32_t>(settings_.session_timeout.count())));
    opened.result = welcome(opened.refused);
    return opened;
  }

  void send(const std::string& bytes) { out_ += bytes; }
  [[nodiscard]] bool has_to_write() const { return !out_.empty(); }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] milliseconds session_timeout() const { return session_timeout_; }
  [[nodiscard]] const std::string& name() const { return server_; }

  base::Result<void> write() {
    while (!out_.empty()) {
      const ssize_t sent = ::send(fd_.get(), out_.data(), out_.size(), MSG_NOSIGNAL);
      if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return {};
      if (sent < 0) return lost(::strerror(errno));
      out_.erase(0, static_cast<std::size_t>(sent));
    }
    return {};
  }

  /// Reads what is there. Error: the connection is over.
  base::Result<void> read() {
    in_.erase(0, std::exchange(taken_, 0));
    const std::size_t had = in_.size();
    in_.resize(had + kReadBytes);
    const ssize_t got = ::recv(fd_.get(), in_.data() + had, kReadBytes, 0);
    const int problem = errno;
    in_.resize(had + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got == 0) return lost("the server closed the connection");
    if (got < 0 && problem != EAGAIN && problem != EINTR) return lost(::strerror(problem));
    return {};
  }

  /// The next whole answer of what was read, valid until the next read(); nothing: there is none yet.
  base::Result<std::optional<std::string_view>> frame() {
    const std::string_view bytes = std::string_view(in_).substr(taken_);
    if (bytes.size() < kZookeeperLengthBytes) return std::nullopt;
    const std::size_t length = MESH_TRY(zookeeper_length(bytes, settings_.jute_maxbuffer));
    if (bytes.size() - kZookeeperLengthBytes < length) return std::nullopt;
    taken_ += kZookeeperLengthBytes + length;
    return bytes.substr(kZookeeperLengthBytes, length);
  }

 private:
  [[nodiscard]] std::unexpected<base::Error> lost(const std::string& why) const {
    return base::fail(ErrorKind::kUnavailable, "talk to ZooKeeper at " + server_ + ": " + why);
  }

  base::Result<void> connect() {
    until_ = base::steady_now() + std::min(kMaxConnect, settings_.session_timeout);
    const auto [host, port] = MESH_TRY(parse_zookeeper_server(server_));
    const std::string doing = "connect to ZooKeeper at " + server_;
    std::optional<base::Error> trouble;
    for (const base::SocketAddress& address : MESH_TRY(resolve(host, port, until_, feed_))) {
      auto fd = connect_to(address, until_, feed_, doing);
      if (fd) {
        fd_ = std::move(*fd);
        return {};
      }
      trouble = std::move(fd).error();
      if (feed_.stopping()) break;
    }
    if (!trouble) return base::fail(ErrorKind::kUnavailable, doing + ": its name has no address");
    return std::unexpected(std::move(*trouble));
  }

  base::Result<void> welcome(bool& refused) {
    const std::string doing = "wait for the welcome of ZooKeeper at " + server_;
    MESH_CHECK(write());
    while (true) {
      MESH_CHECK(wait_for(fd_.get(), POLLIN, until_, feed_, doing));
      if (!read()) {
        refused = true;
        return base::fail(ErrorKind::kUnavailable, doing + ": the server closed the connection",
                          "it has no quorum, lags behind, wants TLS on this port, or has too many connections of this "
                          "host (maxClientCnxns); its log says which");
      }
      const auto answer = MESH_TRY(frame());
      if (!answer) continue;
      const ZookeeperWelcome welcome = MESH_TRY(parse_zookeeper_welcome(*answer));
      if (welcome.session_timeout_ms <= 0) {
        refused = true;
        return base::fail(ErrorKind::kUnavailable, doing + ": it gives no session");
      }
      session_timeout_ = milliseconds(welcome.session_timeout_ms);
      return {};
    }
  }

  const ZookeeperSettings& settings_;
  const std::string server_;
  const Feed& feed_;
  TimePoint until_{};  // of the welcome
  base::Fd fd_;
  milliseconds session_timeout_{};
  std::string out_;
  std::string in_;
  std::size_t taken_ = 0;  // of in_
};

/// One session, until it ends.
class Session {
 public:
  Session(const ZookeeperSettings& settings, ZookeeperWatch& watch, std::int64_t& last_zxid, Link& link, Feed& feed)
      : settings_(settings), watch_(watch), last_zxid_(last_zxid), link_(link), feed_(feed) {}

  base::Result<void> go() {
    MESH_CHECK(sign_in());
    watch_.restart();
    heard_at_ = base::steady_now();
    ping_at_ = heard_at_ + link_.session_timeout() / 3;
    ask();
    while (!feed_.stopping()) {
      MESH_CHECK(take());
      tell();
      ask();
      MESH_CHECK(link_.write());
      MESH_CHECK(wait());
    }
    // So that the server has one session less to remember; if it doesn't listen, it forgets it by itself.
    link_.send(zookeeper_close(++xid_));
    (void)link_.write();
    return {};
  }

 private:
  base::Result<void> sign_in() {
    if (settings_.auth_file.empty()) return {};
    std::string text = MESH_TRY(base::read_file(settings_.auth_file, kMaxAuthFile));
    while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
    if (text.find(':') == std::string::npos || text.starts_with(':')) {
      return base::fail(ErrorKind::kInvalid, "read auth_file " + settings_.auth_file + ": it is not user:password",
                        "write one line, as reader:secret");
    }
    link_.send(zookeeper_digest(text));
    return {};
  }

  void ask() {
    const std::size_t room = settings_.max_reads - std::min<std::size_t>(in_flight_.size(), settings_.max_reads);
    for (ZookeeperWatch::Ask& one : watch_.take_asks(room)) {
      xid_ = xid_ == INT32_MAX ? 1 : xid_ + 1;
      link_.send(zookeeper_read(xid_, one.what, one.path));
      in_flight_.emplace_back(xid_, std::move(one));
    }
    if (const TimePoint now = base::steady_now(); now >= ping_at_) {
      link_.send(zookeeper_ping());
      ping_at_ = now + link_.session_timeout() / 3;
    }
  }

  base::Result<void> wait() {
    std::array<pollfd, 2> waits{{{link_.fd(), static_cast<short>(POLLIN | (link_.has_to_write() ? POLLOUT : 0)), 0},
                                 {feed_.wake_fd(), POLLIN, 0}}};
    ::poll(waits.data(), waits.size(),
           poll_time(std::min({heard_at_ + patience(), ping_at_, unsaid_ ? pace_.due() : kNever})));
    if ((waits[0].revents & ~POLLOUT) != 0) return link_.read();
    return {};
  }

  [[nodiscard]] base::Duration patience() const { return link_.session_timeout() * 2 / 3; }

  base::Result<void> take() {
    while (true) {
      auto frame = link_.frame();
      if (!frame) {
        base::Error error = std::move(frame).error();
        return std::unexpected(in_flight_.empty() ? std::move(error)
                                                  : std::move(error).within(in_flight_.front().second.path));
      }
      if (!*frame) break;
      heard_at_ = base::steady_now();
      const ZookeeperHeader header = MESH_TRY(parse_zookeeper_header(**frame));
      MESH_CHECK(take(header));
    }
    if (base::steady_now() < heard_at_ + patience()) return {};
    return base::fail(ErrorKind::kTimeout,
                      "talk to ZooKeeper at " + link_.name() + ": no answer for " + base::format_age(patience()));
  }

  base::Result<void> take(const ZookeeperHeader& header) {
    if (header.xid == kZookeeperEventXid) {
      watch_.happened(MESH_TRY(parse_zookeeper_news(header.body)));
      return {};
    }
    last_zxid_ = std::max(last_zxid_, header.zxid);
    if (header.xid == kZookeeperPingXid) {
      confirmed_ = true;
      return {};
    }
    if (header.xid == kZookeeperDigestXid) {
      if (header.error == zookeeper_error::kOk) return {};
      feed_.leave_alone_for(kAuthPause);
      return base::fail(ErrorKind::kPermission,
                        "sign in to ZooKeeper at " + link_.name() + " by digest: " + zookeeper_error_text(header.error),
                        "check auth_file, and whether the ensemble allows the scheme digest");
    }
    if (in_flight_.empty() || in_flight_.front().first != header.xid) {
      return base::fail(ErrorKind::kInvalid,
                        "talk to ZooKeeper at " + link_.name() + ": an answer to what was not asked",
                        "check that the address is that of ZooKeeper's clients' port");
    }
    const ZookeeperWatch::Ask ask = std::move(in_flight_.front().second);
    in_flight_.pop_front();
    unsaid_ = true;
    auto result = watch_.answered(ask, MESH_TRY(parse_zookeeper_answer(ask.what, header)));
    if (!result && result.error().kind == ErrorKind::kPermission) feed_.leave_alone_for(kAuthPause);
    return result;
  }

  /// Publishes what changed. Many changes are put together, so that publishing leaves time for reading.
  void tell() {
    const TimePoint now = base::steady_now();
    if (now < pace_.due()) return;
    pace_.begin();
    auto services = unsaid_ ? watch_.take_update() : std::nullopt;
    unsaid_ = false;
    for (base::Error& error : watch_.take_reports()) {
      feed_.report(std::move(error));
      confirmed_ = true;  // known again, beside what is wrong
    }
    if (services) {
      feed_.publish(std::move(*services));
      pace_.end();
      published_ = true;
    } else if (confirmed_ && published_ && watch_.is_settled()) {
      feed_.confirm();
    } else {
      return;
    }
    confirmed_ = false;
  }

  const ZookeeperSettings& settings_;
  ZookeeperWatch& watch_;
  std::int64_t& last_zxid_;
  Link& link_;
  Feed& feed_;
  std::int32_t xid_ = 0;
  std::deque<std::pair<std::int32_t, ZookeeperWatch::Ask>> in_flight_;
  TimePoint heard_at_{};  // a whole answer
  TimePoint ping_at_{};
  PublishPace pace_;
  bool unsaid_ = true;      // something may have changed since the last update
  bool confirmed_ = false;  // the server is there
  bool published_ = false;
};

std::unique_ptr<Registry> make_zookeeper(const ZookeeperSettings& settings, const RegistryContext& context) {
  return std::make_unique<ZookeeperRegistry>(settings, context);
}

}  // namespace

ZookeeperRegistry::ZookeeperRegistry(const ZookeeperSettings& settings, const RegistryContext& context)
    : settings_(settings), watch_(settings, context.policy), random_(context.seed) {}

base::Result<void> ZookeeperRegistry::run(Feed& feed) {
  std::vector<std::string> servers = settings_.servers;
  for (std::size_t i = servers.size(); i > 1; --i) std::swap(servers[i - 1], servers[random_.below(i)]);
  std::size_t refused = 0;
  std::optional<base::Error> trouble;
  for (const std::string& server : servers) {
    if (feed.stopping()) return {};
    Link link(settings_, server, feed);
    auto opened = link.open(last_zxid_);
    if (opened.result) return Session(settings_, watch_, last_zxid_, link, feed).go();
    if (opened.refused) ++refused;
    trouble = std::move(opened.result).error();
  }
  if (refused == servers.size()) last_zxid_ = 0;
  if (servers.size() > 1) trouble->message += " (the last of " + std::to_string(servers.size()) + " servers)";
  return std::unexpected(std::move(*trouble));
}

const RegistryType kZookeeperRegistry = registry_type<ZookeeperSettings, make_zookeeper, finish_zookeeper_settings>(
    "zookeeper", "Services in nodes of ZooKeeper; of sources of type zookeeper.", kZookeeperTable, "zookeeper_service",
    &kZookeeperRuleTable);

}  // namespace mesh::discovery
