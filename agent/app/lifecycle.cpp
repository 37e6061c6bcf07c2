// SPDX-License-Identifier: Apache-2.0
#include "app/lifecycle.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include <cerrno>

namespace mesh::app {

base::Result<Signals> Signals::block() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  ::signal(SIGPIPE, SIG_IGN);
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return base::fail_errno(error, "block signals");
  }
  base::Fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return base::fail_errno(errno, "open a signalfd");
  return Signals(std::move(fd));
}

void Signals::watch(io::Loop& loop, std::function<void(int signal)> handler) {
  loop_ = &loop;
  handler_ = std::move(handler);
  loop_->poll(fd_.get(), POLLIN, readable_);
}

void Signals::on_readable(std::int32_t result) {
  if (result < 0) return;  // the loop is going down
  signalfd_siginfo info;
  while (::read(fd_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    handler_(static_cast<int>(info.ssi_signo));
  }
  loop_->poll(fd_.get(), POLLIN, readable_);
}

}  // namespace mesh::app
