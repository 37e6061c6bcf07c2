// SPDX-License-Identifier: Apache-2.0
// Questions to resolvers, over libc-ares; the only user of it. It retries over the resolvers, asks again by TCP what
// came truncated, and draws ids and ports at random.
#pragma once

#include <poll.h>

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "discovery/dns_answer.hpp"

namespace mesh::discovery {

class DnsResolver {
 public:
  struct Options {
    std::vector<base::SocketAddress> servers;  ///< 1 to 8, in the order in which they are asked.
    std::chrono::milliseconds timeout{1000};   ///< Of the first round; doubles with each.
    unsigned tries = 2;                        ///< Rounds.
  };
  /// Called from drive(): the answer, which may be that there is none, or why there is no answer.
  using Done = std::function<void(const DnsQuestion& question, base::Result<DnsAnswer> answer)>;

  static base::Result<std::unique_ptr<DnsResolver>> make(const Options& options, Done done);
  virtual ~DnsResolver() = default;

  virtual void ask(const DnsQuestion& question) = 0;
  /// What to wait for, and how long at most; then drive().
  [[nodiscard]] virtual std::vector<pollfd> waits() const = 0;
  [[nodiscard]] virtual std::chrono::milliseconds patience(std::chrono::milliseconds at_most) const = 0;
  virtual void drive(const std::vector<pollfd>& waits) = 0;
  [[nodiscard]] virtual std::size_t in_flight() const = 0;
};

}  // namespace mesh::discovery
