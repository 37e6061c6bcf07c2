// SPDX-License-Identifier: Apache-2.0
#include "app/admin_server.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.hpp"

namespace mesh::app {
namespace {

using base::ErrorKind;
using base::Result;

constexpr base::log::Logger kLog{"admin"};
constexpr int kBacklog = 64;
constexpr auto kAcceptPause = std::chrono::milliseconds(100);  ///< after accept failed: no descriptors, no memory

gid_t find_group(const std::string& name) {
  if (name.empty()) return kNoGroup;
  struct group entry{};
  struct group* found = nullptr;
  std::vector<char> buffer(16384);
  if (::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return kNoGroup;
  return entry.gr_gid;
}

/// Who is at the other end of a unix socket, as the kernel knows it.
Caller peer_of(int fd, gid_t group) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return {};
  std::vector<gid_t> groups(64);
  length = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  int failed = ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length);
  if (failed != 0 && errno == ERANGE) {  // the kernel has put the needed length there
    groups.resize(length / sizeof(gid_t));
    failed = ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length);
  }
  groups.resize(failed == 0 ? length / sizeof(gid_t) : 0);
  return {access_for(peer.uid, peer.gid, groups, group), peer.uid, peer.pid};
}

Result<std::string> read_token(const std::string& path) {
  std::string token = MESH_TRY(base::read_file(path, kAdminTokenBytesMax));
  token.resize(std::min(token.size(), token.find_first_of("\r\n")));
  if (token.empty()) {
    return base::fail(ErrorKind::kInvalid, "read token " + path + ": its first line is empty",
                      "put a long random text there, for example by 'openssl rand -hex 32'");
  }
  return token;
}

bool is_loopback(const base::IpAddress& ip) {
  if (ip.is_v4()) return ip.bytes[12] == 127;
  return ip == *base::IpAddress::parse("::1");
}

/// "ADDR:PORT" where the port may be 0: the kernel chooses one.
Result<base::SocketAddress> parse_listen(const std::string& text) {
  if (text.ends_with(":0")) {
    auto address = MESH_TRY(base::SocketAddress::parse(text.substr(0, text.size() - 1) + "1"));
    address.port = 0;
    return address;
  }
  return base::SocketAddress::parse(text);
}

/// Whether somebody answers at a unix socket's path. A process that was killed may be gone while its ring still holds
/// the listener for some milliseconds: that is nobody.
bool somebody_listens(const sockaddr_un& address) {
  const base::Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int result = ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  if (result != 0) return errno == EAGAIN;
  ucred listener{};
  socklen_t size = sizeof(listener);
  if (::getsockopt(probe.get(), SOL_SOCKET, SO_PEERCRED, &listener, &size) != 0 || listener.pid <= 0) return true;
  return ::kill(listener.pid, 0) == 0 || errno != ESRCH;
}

}  // namespace

Access access_for(uid_t uid, gid_t gid, std::span<const gid_t> groups, gid_t group) {
  if (uid == 0) return Access::kChange;
  if (group == kNoGroup) return Access::kNone;
  return gid == group || std::find(groups.begin(), groups.end(), group) != groups.end() ? Access::kRead : Access::kNone;
}

/// Accepts, and keeps the connections it made.
class AdminServer::Listener {
 public:
  Listener(AdminServer& server, base::Fd fd, bool local, AdminConnectionContext& context)
      : server_(server), fd_(std::move(fd)), local_(local), context_(context) {}

  void start() { server_.loop_.accept(fd_.get(), accept_operation_); }

  void stop() {
    stopping_ = true;
    server_.loop_.disarm(pause_);
    if (accept_operation_.in_flight()) server_.loop_.cancel(accept_operation_);
    const auto connections = connections_;  // close() may be answered at once
    for (const auto& [key, connection] : connections) connection->close();
  }

  [[nodiscard]] bool quiet() const { return !accept_operation_.in_flight() && connections_.empty(); }
  [[nodiscard]] std::size_t connections() const { return connections_.size(); }

 private:
  void on_accepted(std::int32_t result) {
    if (stopping_) {
      if (result >= 0) ::close(result);
      return server_.post_maybe_stopped();
    }
    if (result < 0) {
      kLog.warn("accept failed", {{"err", std::strerror(-result)}});
      return server_.loop_.arm(pause_, server_.loop_.now() + kAcceptPause);
    }
    if (connections_.size() >= kAdminConnectionsMax) {
      ++server_.counters_.refused_connections;
      kLog.warn("connection closed: too many", {{"limit", kAdminConnectionsMax}, {"unix", local_}});
      ::close(result);
    } else {
      adopt(result);
    }
    start();
  }

  void on_pause_over(base::TimePoint) { start(); }

  void adopt(int fd) {
    const Caller caller = local_ ? peer_of(fd, server_.group_) : Caller{.access = Access::kObserve};
    auto connection = std::make_shared<AdminConnection>(context_, fd, caller, [this](AdminConnection* gone) {
      // Not inside the connection's own call: its shared_ptr may be the last one.
      server_.loop_.post([this, gone] {
        connections_.erase(gone);
        server_.maybe_stopped();
      });
    });
    connections_.emplace(connection.get(), connection);
    connection->start();
  }

  AdminServer& server_;
  base::Fd fd_;
  bool local_;
  AdminConnectionContext& context_;
  bool stopping_ = false;
  std::map<AdminConnection*, std::shared_ptr<AdminConnection>> connections_;
  io::MemberOperation<Listener, &Listener::on_accepted> accept_operation_{*this};
  io::MemberTimer<Listener, &Listener::on_pause_over> pause_{*this};
};

AdminServer::AdminServer(io::Loop& loop, AdminBackend& backend, AdminServerOptions options)
    : loop_(loop),
      options_(std::move(options)),
      unix_context_{loop, backend, counters_, "", nullptr},
      tcp_context_{loop, backend, counters_, "", options_.metrics_certificate} {}

AdminServer::~AdminServer() {
  for (const auto& listener : listeners_) MESH_ASSERT(listener->quiet());
}

Result<void> AdminServer::start() {
  // Both are bound before either serves: a refused address leaves nothing behind.
  if (!options_.metrics_token_file.empty()) tcp_context_.token = MESH_TRY(read_token(options_.metrics_token_file));
  base::Fd tcp;
  base::Fd local;
  if (!options_.metrics_listen.empty()) tcp = MESH_TRY(bind_tcp());
  if (!options_.socket.empty()) local = MESH_TRY(bind_unix());
  if (local.valid()) listeners_.push_back(std::make_unique<Listener>(*this, std::move(local), true, unix_context_));
  if (tcp.valid()) listeners_.push_back(std::make_unique<Listener>(*this, std::move(tcp), false, tcp_context_));
  for (const auto& listener : listeners_) listener->start();
  return {};
}

void AdminServer::stop(std::function<void()> done) {
  stopped_ = std::move(done);
  if (!options_.socket.empty() && !listeners_.empty()) ::unlink(options_.socket.c_str());
  for (const auto& listener : listeners_) listener->stop();
  post_maybe_stopped();
}

void AdminServer::post_maybe_stopped() {
  loop_.post([weak = std::weak_ptr(self_)] {
    if (const auto self = weak.lock()) (*self)->maybe_stopped();
  });
}

void AdminServer::maybe_stopped() {
  if (!stopped_ || !std::all_of(listeners_.begin(), listeners_.end(), [](const auto& l) { return l->quiet(); })) return;
  listeners_.clear();
  const auto done = std::exchange(stopped_, nullptr);
  done();
}

std::size_t AdminServer::connections() const {
  std::size_t count = 0;
  for (const auto& listener : listeners_) count += listener->connections();
  return count;
}

Result<base::Fd> AdminServer::bind_unix() {
  const std::string& path = options_.socket;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return base::fail(ErrorKind::kInvalid, "bind " + path + ": a socket's path has at most 107 bytes",
                      "set agent.socket");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  if (somebody_listens(address)) {
    return base::fail(ErrorKind::kConflict, "bind " + path + ": another process listens there",
                      "is a second agent running? give this one its own agent.socket");
  }
  base::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return base::fail_errno(errno, "create the admin socket");
  ::unlink(path.c_str());
  group_ = find_group(options_.socket_group);
  // Nobody may connect between bind and chown: created without permissions, opened up afterwards.
  const mode_t before = ::umask(0777);
  const int bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const int errnum = errno;
  ::umask(before);
  if (bound != 0) return base::fail_errno(errnum, "bind " + path, "does its folder exist? see agent.run_dir");
  if (group_ != kNoGroup && ::chown(path.c_str(), static_cast<uid_t>(-1), group_) != 0) {
    return base::fail_errno(errno, "give " + path + " to group " + options_.socket_group);
  }
  if (::chmod(path.c_str(), group_ == kNoGroup ? 0600 : 0660) != 0) return base::fail_errno(errno, "chmod " + path);
  if (::listen(fd.get(), kBacklog) != 0) return base::fail_errno(errno, "listen at " + path);
  return fd;
}

Result<base::Fd> AdminServer::bind_tcp() {
  auto address = parse_listen(options_.metrics_listen);
  if (!address) return std::unexpected(std::move(address).error().within("agent.metrics.listen"));
  if (!is_loopback(address->ip) && tcp_context_.token.empty() && tcp_context_.certificate == nullptr) {
    return base::fail(ErrorKind::kInvalid,
                      "listen at " + options_.metrics_listen + ": not a loopback address, and neither TLS nor a token",
                      "set agent.metrics.tls or agent.metrics.token_file, or listen at 127.0.0.1 or [::1]");
  }
  sockaddr_storage storage;
  const socklen_t length = address->to_sockaddr(storage);
  base::Fd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return base::fail_errno(errno, "create the metrics listener");
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    auto failed =
        base::fail_errno(errno, "listen at " + options_.metrics_listen, "choose another agent.metrics.listen");
    if (failed.error().errnum == EADDRINUSE) failed.error().kind = ErrorKind::kConflict;
    return failed;
  }
  socklen_t bound_length = sizeof(storage);
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&storage), &bound_length);
  metrics_address_ = base::SocketAddress::from_sockaddr(storage);
  return fd;
}

}  // namespace mesh::app
