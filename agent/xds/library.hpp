// SPDX-License-Identifier: Apache-2.0
// The library that speaks xDS (gRPC, protobuf), loaded when it is wanted first. It stays: gRPC has threads.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "xds/message.hpp"

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

class Library {
 public:
  virtual ~Library() = default;
  /// Begins to connect.
  [[nodiscard]] virtual std::unique_ptr<Stream> open(const StreamOptions& options) const = 0;
  /// A DiscoveryResponse; error: it is none.
  [[nodiscard]] virtual base::Result<Answer> decode(std::string_view bytes) const = 0;
};

/// "../lib/meshd/xds.so" from the folder of the running program.
std::string library_path();

/// For all threads. kUnsupported: it is not installed, or of another version.
base::Result<const Library*> library();

/// What the library exports, under this name.
inline constexpr const char* kLibraryEntry = "meshd_xds_library";
using LibraryEntry = const Library* (*)(const char* version);  ///< Null: it is of another version.

}  // namespace mesh::xds
