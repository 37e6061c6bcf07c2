// SPDX-License-Identifier: Apache-2.0
// The backends of the benchmarks: listeners in a network namespace, either drained between blocks by whoever holds
// them (so that accepting costs the measured side nothing), or served by a process of their own.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "tests/bench/target.hpp"

namespace mesh::bench {

struct ServerSpec {
  std::string netns;
  std::vector<base::SocketAddress> at;

  /// From "at=A:P+A:P[,netns=PATH]".
  static base::Result<ServerSpec> parse(std::string_view text);
};

class Server {
 public:
  /// kBare only listens; the other modes fork a process that serves until this object ends. `block_bytes`: after
  /// how many received bytes a kBulk connection is answered.
  static base::Result<Server> start(const ServerSpec& spec, Mode mode, int cpu, std::size_t block_bytes);
  Server(Server&& other) noexcept : listeners_(std::move(other.listeners_)), pid_(std::exchange(other.pid_, -1)) {}
  Server& operator=(Server&&) = delete;
  ~Server();

  /// Accepts and closes all that waits.
  void drain() const;

 private:
  Server() = default;
  std::vector<base::Fd> listeners_;
  pid_t pid_ = -1;
};

}  // namespace mesh::bench
