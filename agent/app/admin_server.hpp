// SPDX-License-Identifier: Apache-2.0
// Where the admin API is reached: a unix socket for people and meshctl (who may do what is decided by SO_PEERCRED), and
// a TCP listener for /metrics, /livez and /readyz. A listener that is not on loopback demands a token or speaks TLS, or
// both; without either it is refused, because the metrics of a mesh tell its services to whoever asks or listens.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "app/admin_backend.hpp"
#include "app/admin_connection.hpp"
#include "base/address.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "io/loop.hpp"

namespace mesh::app {

inline constexpr std::size_t kAdminConnectionsMax = 64;  ///< of each listener; further ones are closed and counted
inline constexpr std::size_t kAdminTokenBytesMax = 4096;

struct AdminServerOptions {
  std::string socket = "/run/meshd/meshd.sock";  ///< Empty: no unix socket.
  std::string socket_group = "meshd";            ///< May read. Empty or no such group: root only.
  std::string metrics_listen;                    ///< "127.0.0.1:9464". Empty: no listener.
  std::string metrics_token_file;                ///< Its first line is the token; demanded also on loopback if given.
  const CertificateKeeper* metrics_certificate = nullptr;  ///< TLS on the TCP listener. Outlives the server.
};

/// Root may change, members of `group` may read, others nothing. `groups` are the peer's supplementary groups.
Access access_for(uid_t uid, gid_t gid, std::span<const gid_t> groups, gid_t group);
inline constexpr gid_t kNoGroup = static_cast<gid_t>(-1);

class AdminServer {
 public:
  /// `loop` and `backend` outlive the server.
  AdminServer(io::Loop& loop, AdminBackend& backend, AdminServerOptions options);
  ~AdminServer();  ///< Only before start(), or after stop() has called back.
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  /// Binds, in place of what a dead agent left at the path. `kInvalid` for an address that is no address, or not
  /// loopback and without token and TLS; `kConflict` if another process listens.
  base::Result<void> start();
  /// Closes listeners and connections; `done` is called from the loop when nothing is in flight. Removes the socket.
  void stop(std::function<void()> done);

  [[nodiscard]] const AdminCounters& counters() const { return counters_; }
  [[nodiscard]] std::size_t connections() const;
  /// Where the TCP listener is: the port that the kernel chose for ":0". Port 0 without one.
  [[nodiscard]] base::SocketAddress metrics_address() const { return metrics_address_; }

 private:
  class Listener;

  base::Result<base::Fd> bind_unix();
  base::Result<base::Fd> bind_tcp();
  void post_maybe_stopped();
  void maybe_stopped();

  io::Loop& loop_;
  AdminServerOptions options_;
  AdminCounters counters_;
  AdminConnectionContext unix_context_;
  AdminConnectionContext tcp_context_;
  gid_t group_ = kNoGroup;
  base::SocketAddress metrics_address_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::function<void()> stopped_;
  /// Dies with the server: what was posted and comes late does nothing.
  std::shared_ptr<AdminServer*> self_ = std::make_shared<AdminServer*>(this);
};

}  // namespace mesh::app
