// SPDX-License-Identifier: Apache-2.0
#include "app/jobs.hpp"

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace mesh::app {
namespace {

using base::ErrorKind;

struct JobsTest : testing::Test {
  /// Runs the loop until `count` answers have come.
  void await(std::size_t count) {
    wanted = count;
    if (answers.size() < wanted) loop->run();
  }
  Reply<std::string> reply() {
    return [this](base::Result<std::string> answer) {
      EXPECT_EQ(std::this_thread::get_id(), home);
      answers.push_back(answer ? *answer : "error: " + answer.error().message);
      if (answers.size() == wanted) loop->stop();
    };
  }
  Jobs::Work say(std::string text) {
    return [this, text = std::move(text)]() -> base::Result<std::string> {
      EXPECT_NE(std::this_thread::get_id(), home);
      return text;
    };
  }

  const std::thread::id home = std::this_thread::get_id();
  std::unique_ptr<io::Loop> loop = std::move(io::make_loop(io::LoopKind::kEpoll)->loop);
  std::vector<std::string> answers;
  std::size_t wanted = 0;
};

TEST_F(JobsTest, work_on_a_thread_of_their_own_one_after_the_other_and_are_answered_on_the_loop) {
  Jobs jobs(*loop);
  for (const char* text : {"one", "two"}) jobs.run(say(text), reply());
  jobs.run([] { return base::Result<std::string>(base::fail(ErrorKind::kNotFound, "find it")); }, reply());
  jobs.run(say("four"), reply());
  await(4);
  EXPECT_EQ(answers, (std::vector<std::string>{"one", "two", "error: find it", "four"}));
}

TEST_F(JobsTest, beyond_the_limit_are_refused_at_once_and_the_others_are_answered) {
  Jobs jobs(*loop);
  std::promise<void> begun;
  std::promise<void> go_on;
  jobs.run(
      [&]() -> base::Result<std::string> {
        begun.set_value();
        go_on.get_future().wait();
        return "slow";
      },
      reply());
  begun.get_future().wait();
  for (std::size_t i = 0; i < Jobs::kWaitingMax; ++i) jobs.run(say("waited"), reply());
  EXPECT_TRUE(answers.empty());
  jobs.run(say("too many"), reply());
  ASSERT_EQ(answers.size(), 1U) << "before anything else was answered";
  EXPECT_TRUE(answers[0].starts_with("error: answer: 16 long answers are waiting")) << answers[0];
  go_on.set_value();
  await(2 + Jobs::kWaitingMax);
  EXPECT_EQ(answers[1], "slow");
  EXPECT_EQ(answers.back(), "waited");
}

TEST_F(JobsTest, the_end_waits_for_the_job_under_way) {
  std::promise<void> begun;
  bool done = false;
  {
    Jobs jobs(*loop);
    jobs.run(
        [&]() -> base::Result<std::string> {
          begun.set_value();
          done = true;
          return "done";
        },
        reply());
    begun.get_future().wait();
  }
  EXPECT_TRUE(done);
  EXPECT_TRUE(answers.empty()) << "nobody ran the loop";
}

}  // namespace
}  // namespace mesh::app
