// SPDX-License-Identifier: Apache-2.0
#include "http/h1_client.hpp"

#include <boost/beast/http/basic_parser.hpp>
#include <cstdint>
#include <limits>
#include <optional>

namespace mesh::http {
namespace {

namespace beast_http = boost::beast::http;
using boost::beast::error_code;
using boost::beast::string_view;

/// Beast's parser with the callbacks that a probe needs: the others ignore what they get.
class StatusParser final : public beast_http::basic_parser<false> {
 public:
  explicit StatusParser(std::string* body) : body_(body) {
    eager(true);
    header_limit(std::numeric_limits<std::uint32_t>::max());  // the caller counts all bytes of the response
    body_limit(boost::none);
  }
  unsigned status = 0;

 private:
  void on_request_impl(beast_http::verb, string_view, string_view, int, error_code&) override {}
  void on_response_impl(int code, string_view, int, error_code&) override { status = static_cast<unsigned>(code); }
  void on_field_impl(beast_http::field, string_view, string_view, error_code&) override {}
  void on_header_impl(error_code&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, error_code&) override {}
  std::size_t on_body_impl(string_view part, error_code&) override { return keep(part); }
  void on_chunk_header_impl(std::uint64_t, string_view, error_code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, string_view part, error_code&) override { return keep(part); }
  void on_finish_impl(error_code&) override {}

  std::size_t keep(string_view part) {
    if (body_ != nullptr) body_->append(part.data(), part.size());
    return part.size();
  }

  std::string* body_;
};

}  // namespace

std::string build_request(const RequestLine& line, const Headers& headers, std::string_view user_agent) {
  std::string out;
  out.reserve(256);
  out.append(line.method).append(" ").append(line.path).append(" HTTP/1.1\r\n");
  const auto add = [&out](std::string_view name, std::string_view value) {
    out.append(name).append(": ").append(value).append("\r\n");
  };
  if (find_header(headers, "host") == nullptr) add("Host", line.host);
  if (find_header(headers, "user-agent") == nullptr) add("User-Agent", user_agent);
  if (find_header(headers, "accept") == nullptr) add("Accept", "*/*");
  for (const auto& [name, value] : headers) add(name, value);
  out.append("\r\n");
  return out;
}

struct ResponseParser::State {
  Method method;
  Body keep_body;
  std::size_t limit_bytes;
  std::optional<StatusParser> parser;
  std::string pending;  ///< A header that is not whole yet.
  std::string body;
  std::string error;
  std::size_t received = 0;
  bool reusable = false;

  void begin_message() {
    body.clear();
    parser.emplace(keep_body == Body::kKeep ? &body : nullptr);
    parser->skip(method == Method::kHead);
  }

  Progress fail(std::string text) {
    error = std::move(text);
    return Progress::kFailed;
  }

  /// Parses as much of `bytes` as can be; `used` says how much.
  Progress parse(std::span<const std::byte> bytes, std::size_t& used) {
    while (used < bytes.size()) {
      error_code problem;
      const std::size_t parsed = parser->put(boost::asio::buffer(bytes.data() + used, bytes.size() - used), problem);
      used += parsed;
      if (problem == beast_http::error::need_more) break;
      if (problem) return fail(problem.message());
      if (!parser->is_done()) {
        if (parsed == 0) break;
        continue;
      }
      if (parser->status >= 200 || parser->status == 101) {
        reusable = parser->keep_alive() && used == bytes.size();
        return Progress::kDone;
      }
      begin_message();  // an interim response (100, 103); the real one follows
    }
    if (received < limit_bytes) return Progress::kMore;
    if (parser->is_header_done()) return Progress::kDone;
    return fail("headers over " + std::to_string(limit_bytes) + " bytes");
  }
};

ResponseParser::ResponseParser(Method method, Body body, std::size_t limit_bytes)
    : state_(std::make_unique<State>(method, body, limit_bytes)) {
  state_->begin_message();
}
ResponseParser::~ResponseParser() = default;
ResponseParser::ResponseParser(ResponseParser&&) noexcept = default;
ResponseParser& ResponseParser::operator=(ResponseParser&&) noexcept = default;

ResponseParser::Progress ResponseParser::feed(std::span<const std::byte> bytes) {
  State& state = *state_;
  state.received += bytes.size();
  std::size_t used = 0;
  if (state.pending.empty()) {
    const Progress progress = state.parse(bytes, used);
    if (progress == Progress::kMore) {
      state.pending.assign(reinterpret_cast<const char*>(bytes.data()) + used, bytes.size() - used);
    }
    return progress;
  }
  state.pending.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const Progress progress = state.parse(std::as_bytes(std::span(state.pending)), used);
  state.pending.erase(0, used);
  return progress;
}

ResponseParser::Progress ResponseParser::finish() {
  State& state = *state_;
  if (state.received == 0) return state.fail("no response");
  if (!state.parser->is_header_done()) return state.fail("closed before the end of the headers");
  error_code problem;
  state.parser->put_eof(problem);
  if (problem) return state.fail("closed before the end of the body");
  state.reusable = false;
  return Progress::kDone;
}

unsigned ResponseParser::status() const { return state_->parser->status; }
const std::string& ResponseParser::body() const { return state_->body; }
bool ResponseParser::reusable() const { return state_->reusable; }
std::string_view ResponseParser::error() const { return state_->error; }
bool ResponseParser::got_bytes() const { return state_->received > 0; }

void ResponseParser::restart() {
  State& state = *state_;
  state.pending.clear();
  state.error.clear();
  state.received = 0;
  state.reusable = false;
  state.begin_message();
}

}  // namespace mesh::http
