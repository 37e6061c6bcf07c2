// SPDX-License-Identifier: Apache-2.0
// One unary HTTP/2 call on a connection of its own, without I/O, on nghttp2: as a gRPC health check needs it.
#pragma once

#include <memory>
#include <span>

#include "http/message.hpp"

namespace mesh::http {

class UnaryCall {
 public:
  struct Request {
    std::string scheme = "http";
    std::string authority;
    std::string path;
    Headers headers;  ///< Lower-case names.
    std::string body;
  };
  enum class Progress { kMore, kDone, kFailed };

  /// `limit_bytes`: of all that the peer may send.
  UnaryCall(Request request, std::size_t limit_bytes);
  ~UnaryCall();
  UnaryCall(const UnaryCall&) = delete;
  UnaryCall& operator=(const UnaryCall&) = delete;

  /// Bytes for the peer, until taken by sent(). Stable until the next feed().
  [[nodiscard]] std::span<const std::byte> output() const;
  void sent(std::size_t count);
  Progress feed(std::span<const std::byte> bytes);

  [[nodiscard]] unsigned status() const;         ///< 0 before the headers.
  [[nodiscard]] const Headers& headers() const;  ///< Headers and trailers.
  [[nodiscard]] const std::string& body() const;
  [[nodiscard]] const std::string& error() const;
  [[nodiscard]] bool got_bytes() const;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace mesh::http
