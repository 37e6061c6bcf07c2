// SPDX-License-Identifier: Apache-2.0
#include "relay/challenge_server.hpp"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <span>
#include <vector>

#include "base/clock.hpp"
#include "http/h1_server.hpp"
#include "relay/listen.hpp"

namespace mesh::relay {
namespace {

constexpr int kTickMs = 1000;  // while somebody is connected

struct Client {
  base::Fd fd;
  base::TimePoint until;
  http::ServerSession session{{.header_bytes = 8 * 1024, .body_bytes = 0, .pipelined_bytes = 8 * 1024}};
};

/// An answer has less than any send buffer.
void say(const Client& client, const http::Response& response, bool head) {
  const std::string text = http::render(response, {.keep_alive = false, .head = head});
  ::send(client.fd.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  ::shutdown(client.fd.get(), SHUT_WR);
}

/// False: nothing more is expected of it.
bool serve(Client& client, const acme::Board& board) {
  std::array<std::byte, 4096> buffer;
  const ssize_t count = ::recv(client.fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (count <= 0) return false;
  client.session.feed(std::span(buffer).first(static_cast<std::size_t>(count)));
  if (const auto request = client.session.next()) {
    say(client, challenge_response(*request, board), request->method == "HEAD");
    return false;
  }
  if (const auto refusal = client.session.refusal()) {
    say(client, {.status = *refusal, .content_type = ""}, false);
    return false;
  }
  return true;
}

}  // namespace

http::Response challenge_response(const http::Request& request, const acme::Board& board) {
  if (request.method != "GET" && request.method != "HEAD") return {.status = 405, .content_type = ""};
  std::string answer = board.answer(request.target);
  if (answer.empty()) return {.status = 404, .content_type = ""};
  return {.content_type = "application/octet-stream", .body = std::move(answer)};
}

base::Result<std::unique_ptr<ChallengeServer>> ChallengeServer::start(const base::SocketAddress& address,
                                                                      const acme::Board& board) {
  auto listener = MESH_TRY(listen_on(address));
  return std::unique_ptr<ChallengeServer>(new ChallengeServer(address, std::move(listener), board));
}

ChallengeServer::ChallengeServer(const base::SocketAddress& address, base::Fd listener, const acme::Board& board)
    : address_(address),
      listener_(std::move(listener)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      board_(board),
      thread_([this] { run(); }) {
  ::pthread_setname_np(thread_.native_handle(), "acme http");
}

ChallengeServer::~ChallengeServer() {
  ::eventfd_write(wake_.get(), 1);
  thread_.join();
}

void ChallengeServer::run() {
  std::vector<Client> clients;
  while (true) {
    std::vector<pollfd> ready{{wake_.get(), POLLIN, 0},
                              {clients.size() < kChallengeClientsMax ? listener_.get() : -1, POLLIN, 0}};
    for (const Client& client : clients) ready.push_back({client.fd.get(), POLLIN, 0});
    if (::poll(ready.data(), ready.size(), clients.empty() ? -1 : kTickMs) < 0) continue;
    if (ready[0].revents != 0) return;
    const base::TimePoint now = base::steady_now();
    for (std::size_t i = 0; i + 2 < ready.size(); ++i) {
      const bool goes_on = ready[i + 2].revents == 0 ? now < clients[i].until : serve(clients[i], board_);
      if (!goes_on) clients[i].fd.reset();
    }
    std::erase_if(clients, [](const Client& client) { return !client.fd.valid(); });
    if (ready[1].revents == 0) continue;
    base::Fd accepted(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (accepted.valid()) clients.push_back({.fd = std::move(accepted), .until = now + kChallengeDeadline});
  }
}

}  // namespace mesh::relay
