// SPDX-License-Identifier: Apache-2.0
#include "cli/client.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "api/common.hpp"
#include "base/clock.hpp"
#include "base/fd.hpp"

namespace mesh::cli {
namespace {

using base::ErrorKind;
using base::Result;

Result<base::Fd> dial(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return base::fail(ErrorKind::kInvalid, "connect to '" + path + "': a socket's path has at most 107 bytes");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  base::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return base::fail_errno(errno, "create a socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  const int errnum = errno;
  if (errnum == EACCES || errnum == EPERM) {
    return base::fail_errno(errnum, "connect to the agent at " + path,
                            "run it as root, or join the socket's group (ls -l " + path + ")");
  }
  auto failed = base::fail_errno(errnum, "connect to the agent at " + path,
                                 errnum == ENOENT || errnum == ECONNREFUSED
                                     ? "is it running? start it with 'systemctl start meshd', or name its socket with "
                                       "--socket; 'meshctl status', 'check' and 'dump' work without an agent, on what "
                                       "--config or --bpffs names"
                                     : "");
  failed.error().kind = ErrorKind::kUnavailable;
  return failed;
}

/// Waits for `events` until the deadline.
Result<void> await(int fd, short events, base::TimePoint deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - base::steady_now()).count();
    if (left <= 0) {
      return base::fail(ErrorKind::kTimeout, "wait for the agent's answer: the time is over",
                        "give it more with --timeout, and look at 'journalctl -u meshd'");
    }
    pollfd ready{fd, events, 0};
    const int count = ::poll(&ready, 1, static_cast<int>(std::min<long long>(left, 1 << 30)));
    if (count > 0) return {};
    if (count < 0 && errno != EINTR) return base::fail_errno(errno, "wait for the agent's answer");
  }
}

Result<void> send_all(int fd, std::string_view bytes, base::TimePoint deadline) {
  while (!bytes.empty()) {
    MESH_CHECK(await(fd, POLLOUT, deadline));
    const ssize_t count = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0 && errno == EPIPE) return {};  // the answer says why it did not want the rest
    if (count < 0) return base::fail_errno(errno, "send to the agent");
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

Result<std::string> receive_all(int fd, base::TimePoint deadline) {
  std::string text;
  char buffer[65536];
  while (text.size() <= kAnswerLimitBytes) {
    MESH_CHECK(await(fd, POLLIN, deadline));
    const ssize_t count = ::recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count == 0 || (count < 0 && errno == ECONNRESET)) return text;
    if (count < 0) return base::fail_errno(errno, "receive from the agent");
    text.append(buffer, static_cast<std::size_t>(count));
  }
  return base::fail(ErrorKind::kExhausted,
                    fmt::format("receive from the agent: more than {} bytes", kAnswerLimitBytes));
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  });
}

std::string encode_component(std::string_view text) {
  constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/:[]";
  std::string encoded;
  for (const char character : text) {
    if (kPlain.find(character) != std::string_view::npos) {
      encoded += character;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(character));
    }
  }
  return encoded;
}

}  // namespace

std::string make_target(std::string_view path, const QueryParameters& parameters) {
  std::string target(path);
  char separator = '?';
  for (const auto& [name, value] : parameters) {
    if (value.empty()) continue;
    target += fmt::format("{}{}={}", separator, name, encode_component(value));
    separator = '&';
  }
  return target;
}

Result<Answer> parse_answer(std::string_view text) {
  const auto broken = [](const char* why) {
    return base::fail(ErrorKind::kUnavailable, std::string("read the agent's answer: ") + why,
                      "is the socket really meshd's? its log may say more: journalctl -u meshd");
  };
  const auto head_end = text.find("\r\n\r\n");
  if (head_end == std::string_view::npos) return broken("it ended before its head did");
  std::string_view head = text.substr(0, head_end);
  std::string_view body = text.substr(head_end + 4);
  Answer answer;
  if (!head.starts_with("HTTP/1.1 ") || head.size() < 12) return broken("it is not HTTP/1.1");
  const auto [end, error] = std::from_chars(head.data() + 9, head.data() + 12, answer.status);
  if (error != std::errc{} || end != head.data() + 12) return broken("its status is no number");
  while (!head.empty()) {
    const std::string_view line = head.substr(0, head.find("\r\n"));
    head.remove_prefix(std::min(head.size(), line.size() + 2));
    const auto colon = line.find(':');
    if (colon == std::string_view::npos || !equals_ignoring_case(line.substr(0, colon), "content-length")) continue;
    std::string_view value = line.substr(colon + 1);
    value.remove_prefix(std::min(value.size(), value.find_first_not_of(' ')));
    std::size_t length = 0;
    if (std::from_chars(value.data(), value.data() + value.size(), length).ec != std::errc{}) {
      return broken("its length is no number");
    }
    if (body.size() < length) return broken("it ended early");
    body = body.substr(0, length);
  }
  answer.body = body;
  return answer;
}

Result<std::string> Client::exchange(std::string_view method, const std::string& target,
                                     const std::string& body) const {
  const base::Fd fd = MESH_TRY(dial(socket_path_));
  const base::TimePoint deadline = base::steady_now() + timeout_;
  std::string request = fmt::format("{} {} HTTP/1.1\r\nHost: meshd\r\nConnection: close\r\n", method, target);
  if (method != "GET") {
    request += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
  }
  MESH_CHECK(send_all(fd.get(), request + "\r\n" + body, deadline));
  const std::string received = MESH_TRY(receive_all(fd.get(), deadline));
  Answer answer = MESH_TRY(parse_answer(received));
  if (answer.status >= 200 && answer.status < 300) return std::move(answer.body);
  if (auto view = api::decode<api::ErrorView>(answer.body); view && !view->message.empty()) {
    return std::unexpected(api::to_error(*view));
  }
  return base::fail(ErrorKind::kSystem, fmt::format("{} {}: the agent answered {}", method, target, answer.status));
}

Result<api::Json> Client::get_all(std::string_view path, QueryParameters parameters) const {
  parameters.emplace_back("after", "");
  api::Json whole;
  while (true) {
    const std::string body = MESH_TRY(get(make_target(path, parameters)));
    api::Json page = MESH_TRY(api::detail::parse(body));
    if (!page.is_object() || !page["items"].is_array() || !page["next"].is_string()) {
      return base::fail(ErrorKind::kUnavailable, "read the agent's answer: it is no list");
    }
    std::string next = page["next"];
    if (whole.is_null()) {
      whole = std::move(page);
    } else {
      for (auto& item : page["items"]) whole["items"].push_back(std::move(item));
    }
    if (next.empty()) break;
    if (next == parameters.back().second) {
      return base::fail(ErrorKind::kUnavailable, "read the agent's list: the same page came twice");
    }
    parameters.back().second = std::move(next);
  }
  whole["next"] = "";
  return whole;
}

}  // namespace mesh::cli
