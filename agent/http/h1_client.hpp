// SPDX-License-Identifier: Apache-2.0
// The client's side of one HTTP/1.1 exchange without I/O, as a health probe needs it: the status, whether the
// connection can be used again, and the body only if somebody asks for it. Boost.Beast parses; nothing is allocated for
// a response that comes in one piece.
//
// What a peer can cost is bounded by `limit_bytes`: after that many bytes of one response the parser stops. If the
// headers were complete by then, the status counts and the rest of the body is not waited for.
#pragma once

#include <memory>
#include <span>

#include "http/message.hpp"

namespace mesh::http {

struct RequestLine {
  std::string_view method = "GET";
  std::string_view path = "/";
  std::string_view host;
};

/// Request bytes without a body. `headers` are sent as given; a Host, User-Agent, Accept or Connection among them
/// replaces ours.
[[nodiscard]] std::string build_request(const RequestLine& line, const Headers& headers, std::string_view user_agent);

class ResponseParser {
 public:
  enum class Method { kHead, kOther };
  enum class Body { kIgnore, kKeep };
  enum class Progress {
    kMore,    ///< Feed more.
    kDone,    ///< status() and body() hold.
    kFailed,  ///< error() says what is wrong with the response.
  };

  ResponseParser(Method method, Body body, std::size_t limit_bytes);
  ~ResponseParser();
  ResponseParser(ResponseParser&&) noexcept;
  ResponseParser& operator=(ResponseParser&&) noexcept;

  Progress feed(std::span<const std::byte> bytes);
  /// The peer ended the connection: fine for a body without a length, else the response is cut off.
  Progress finish();

  [[nodiscard]] unsigned status() const;
  [[nodiscard]] const std::string& body() const;  ///< With Body::kKeep, up to the limit.
  /// The response was read to its end and both sides keep the connection.
  [[nodiscard]] bool reusable() const;
  [[nodiscard]] std::string_view error() const;  ///< "bad version"; "no response" if the peer closed before a byte.
  [[nodiscard]] bool got_bytes() const;
  /// For the next response on the same connection; keeps the memory.
  void restart();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mesh::http
