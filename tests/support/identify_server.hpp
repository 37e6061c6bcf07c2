// SPDX-License-Identifier: Apache-2.0
// A small server that says who it is, so that a test knows which backend a connection reached: over TCP (writes its
// name and closes), UDP (answers each datagram with its name) and HTTP (answers every request with its name;
// keep-alive). One process, one thread, all addresses of its host, both families.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/lab.hpp"

namespace mesh::test {

struct IdentifyPorts {
  std::vector<std::uint16_t> tcp{7000};
  std::vector<std::uint16_t> udp{7000};
  std::vector<std::uint16_t> http{8080};
};

class IdentifyServer {
 public:
  /// Starts it on `host`; listens when this returns. Its name is the host's unless another is given.
  IdentifyServer(Lab& lab, const Host& host, IdentifyPorts ports = {}, std::string name = {});

  /// What HTTP answers from now on (200 at first).
  void answer_with(int http_status) { shared_->http_status.store(http_status); }
  [[nodiscard]] std::uint64_t http_requests() const { return shared_->http_requests.load(); }
  [[nodiscard]] std::uint64_t tcp_accepts() const { return shared_->tcp_accepts.load(); }

  void kill() { process_.kill(); }  ///< SIGKILL: connects are refused from now on.
  void stop() const;                ///< SIGSTOP: the kernel still accepts, nobody answers.
  void resume() const;              ///< SIGCONT
  void start();                     ///< Again, after kill().

 private:
  struct Shared {
    std::atomic<bool> ready{false};
    std::atomic<int> http_status{200};
    std::atomic<std::uint64_t> http_requests{0};
    std::atomic<std::uint64_t> tcp_accepts{0};
  };
  static int serve(const IdentifyPorts& ports, const std::string& name, Shared& shared);

  SpawnOptions options_;
  IdentifyPorts ports_;
  std::string name_;
  std::shared_ptr<Shared> shared_;  ///< In memory that the server process shares.
  Process process_;
};

}  // namespace mesh::test
