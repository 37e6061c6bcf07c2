// SPDX-License-Identifier: Apache-2.0
// Messages of api/relay.hpp over a stream socket, with descriptors: a header of eight bytes (length, number of
// descriptors; this machine's byte order), then JSON. Blocking, with a deadline for each call: both ends have a thread
// that does nothing else.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <span>
#include <string>
#include <vector>

#include "api/codec.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"

namespace mesh::app {

inline constexpr std::size_t kRelayMessageMax = 64UL << 20;
inline constexpr std::size_t kRelayDescriptorsMax = 200;  ///< In one message; the kernel's limit is 253.
inline constexpr std::chrono::seconds kRelayPatience{5};  ///< For the rest of a message, and to be rid of one.

class RelayChannel {
 public:
  struct Message {
    api::Json body;
    std::vector<base::Fd> descriptors;
    [[nodiscard]] std::string kind() const { return body.value("kind", ""); }
  };

  RelayChannel() = default;
  explicit RelayChannel(base::Fd fd);

  /// The descriptors stay the caller's.
  base::Result<void> send(const std::string& text, std::span<const int> descriptors = {});
  /// The next message, once the socket is readable. kUnavailable: the other end is gone.
  base::Result<Message> receive();

  /// The process at the other end, as the kernel says; 0: it is not in this process's namespace of processes.
  [[nodiscard]] pid_t peer() const;
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool open() const { return fd_.valid(); }
  void close() { fd_.reset(); }

 private:
  base::Fd fd_;
};

/// The socket that the agent listens on, for root alone. Replaces what an agent before has left.
base::Result<base::Fd> listen_for_relays(const std::string& path);
base::Result<RelayChannel> connect_to_agent(const std::string& path);

}  // namespace mesh::app
