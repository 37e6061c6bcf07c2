// SPDX-License-Identifier: Apache-2.0
// The library that speaks xDS (gRPC, protobuf), loaded when it is wanted first. It stays: gRPC has threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "xds/message.hpp"
#include "xds/world.hpp"

namespace mesh::xds {

/// Beyond it a message is an error: 100,000 endpoints in one have some 6 MiB.
inline constexpr int kMaxMessageBytes = 64 << 20;

struct Pems {
  std::string ca;           ///< Trusted issuers; empty: the system's.
  std::string certificate;  ///< Of this client, then its chain; empty: none.
  std::string key;
  bool operator==(const Pems&) const = default;
};

struct StreamOptions {
  std::string server;  ///< "control-plane:18000" or "unix:/run/control-plane.sock"
  bool tls = false;
  Pems pems;
  std::string server_name;  ///< To ask for and to verify; empty: that of `server`.
  bool verify = true;
  std::string token;  ///< Of the bearer; empty: none.
  std::chrono::milliseconds connect_timeout{5000};
  std::chrono::milliseconds keepalive{300'000};  ///< Between two pings; a server that answers none is gone.
};

/// One stream of aggregated discovery on a connection of its own, as a client. Ends with its destruction, at once.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual void send(const Request& request) = 0;
  /// The next answer. Nothing: `timeout` is over, or `wake_fd` is readable. Error: the stream has ended.
  virtual base::Result<std::optional<Answer>> receive(std::chrono::milliseconds timeout, int wake_fd) = 0;
};

inline constexpr std::size_t kMaxClients = 256;       ///< Of the server; more are refused.
inline constexpr std::chrono::seconds kMaxWrite{30};  ///< A client that takes no answer for so long is left.

/// Of a client that refuses what the server says.
struct Refused {
  std::string client;  ///< Id of its node.
  Type type = Type::kCluster;
  std::string version;
  std::string why;
};

struct ServerOptions {
  std::string listen;                              ///< "127.0.0.1:18000" or "unix:/run/meshd/xds.sock"
  std::function<void(const Refused&)> on_refusal;  ///< From threads of the library.
};

struct ServerStats {
  std::size_t clients = 0;
  std::uint64_t streams = 0;  ///< Ever.
  std::uint64_t answers = 0;
  std::uint64_t accepted = 0;  ///< Of answers.
  std::uint64_t refused = 0;   ///< Of answers.
  std::uint64_t dropped = 0;   ///< Clients, for being slow or too many, or for asking for too much.
};

/// Aggregated discovery for clients, each a Session. All functions from any thread.
class Server {
 public:
  virtual ~Server() = default;
  /// Clients are told what is new to them.
  virtual void set_world(WorldPtr world) = 0;
  /// To be called about once a second.
  virtual void tend(base::TimePoint now) = 0;
  [[nodiscard]] virtual ServerStats stats() const = 0;
};

class Library {
 public:
  virtual ~Library() = default;
  /// Begins to connect.
  [[nodiscard]] virtual std::unique_ptr<Stream> open(const StreamOptions& options) const = 0;
  /// Begins to listen.
  [[nodiscard]] virtual base::Result<std::unique_ptr<Server>> serve(ServerOptions options) const = 0;
  /// A DiscoveryResponse; error: it is none.
  [[nodiscard]] virtual base::Result<Answer> decode(std::string_view bytes) const = 0;
};

/// "../lib/meshd/plugins/xds.so" from the folder of the running program.
std::string library_path();

/// For all threads. kUnsupported: it is not installed, or of another version.
base::Result<const Library*> library();

/// What the library exports, under this name.
inline constexpr const char* kLibraryEntry = "meshd_xds_library";
using LibraryEntry = const Library* (*)(const char* version);  ///< Null: it is of another version.

}  // namespace mesh::xds
