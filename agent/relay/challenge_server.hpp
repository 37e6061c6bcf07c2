// SPDX-License-Identifier: Apache-2.0
// Answers the ACME challenge http-01 on port 80, and 404 to everything else: one request for each connection, few
// connections at a time, each for a few seconds. On a thread of its own.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "acme/board.hpp"
#include "base/address.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "http/message.hpp"

namespace mesh::relay {

inline constexpr std::size_t kChallengeClientsMax = 100;  ///< More wait in the kernel.
inline constexpr auto kChallengeDeadline = std::chrono::seconds(10);

/// What is said to a request.
http::Response challenge_response(const http::Request& request, const acme::Board& board);

class ChallengeServer {
 public:
  /// Listens and answers until it is destroyed. The board outlives it.
  static base::Result<std::unique_ptr<ChallengeServer>> start(const base::SocketAddress& address,
                                                              const acme::Board& board);
  ~ChallengeServer();

  [[nodiscard]] const base::SocketAddress& address() const { return address_; }

 private:
  ChallengeServer(const base::SocketAddress& address, base::Fd listener, const acme::Board& board);
  void run();

  const base::SocketAddress address_;
  base::Fd listener_;
  base::Fd wake_;
  const acme::Board& board_;
  std::thread thread_;
};

}  // namespace mesh::relay
