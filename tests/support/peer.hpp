// SPDX-License-Identifier: Apache-2.0
// Hostile servers on loopback, in a few lines: what a peer does with a connection is a function.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/fd.hpp"
#include "tests/support/process.hpp"

namespace mesh::test {

/// A listening socket on 127.0.0.1 and its port.
struct Listening {
  explicit Listening(int backlog = 16);
  base::Fd fd;
  std::uint16_t port = 0;
};

/// A port where nobody listens.
std::uint16_t free_port();
bool listens(std::uint16_t port);

/// A peer in a child process: `serve` gets each accepted connection, in a child of its own, and closes it by returning.
class Peer {
 public:
  explicit Peer(const std::function<void(int)>& serve);
  [[nodiscard]] std::uint16_t port() const { return listening_.port; }

 private:
  Listening listening_;
  Process process_;
};

void say(int fd, std::string_view text);
/// What one read gets.
std::string hear(int fd);
/// Until the other side is gone.
void linger(int fd);

}  // namespace mesh::test
