# Without tasks nothing refreshes, which is no reason for an alarm.
locals {
  alarms        = var.desired_count > 0 ? 1 : 0
  alarm_actions = var.alarm_topic == "" ? [] : [var.alarm_topic]
}

# This alarm is about the task that is latest. No metric at all counts as late too, so it is created after the service,
# and may sound until its first task has refreshed. The period is longer than two lines of metrics can be apart, however
# rare refreshes are; a task that SSM throttled is late when it misses a refresh of its own interval.
resource "aws_cloudwatch_metric_alarm" "no_refresh" {
  count      = local.alarms
  depends_on = [aws_ecs_service.task]

  alarm_name          = "${var.name}-snowflake-key-no-refresh"
  alarm_description   = "A task of ${var.name} is late with its refresh from the parameters of its Snowflake key. It goes on with the key that it has, and would miss a rotation. The log of its sidecar says why, and what to do."
  namespace           = "Snowkey"
  metric_name         = "MinutesLate"
  dimensions          = { Service = var.name }
  statistic           = "Maximum"
  period              = 900
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.refresh_max_minutes
  treat_missing_data  = "breaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "old_key" {
  count = local.alarms

  alarm_name          = "${var.name}-snowflake-key-old"
  alarm_description   = "The Snowflake key of ${var.name} is due for rotation."
  namespace           = "Snowkey"
  metric_name         = "KeyAgeDays"
  dimensions          = { Service = var.name }
  statistic           = "Maximum"
  period              = 3600
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.key_max_age_days
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

# The last line of a run is its summary. These are the results of a run that has done its work.
resource "aws_cloudwatch_log_metric_filter" "rotation" {
  count = local.rotation

  name           = "${var.name}-snowflake-key-rotations"
  log_group_name = aws_cloudwatch_log_group.task.name
  pattern        = "{ ($.parameter = \"${var.key_parameter}\") && (($.result = \"rotated\") || ($.result = \"finished\") || ($.result = \"young\") || ($.result = \"nothing\") || ($.result = \"withdrawn\") || ($.result = \"overtaken\")) }"

  metric_transformation {
    namespace = "Snowkey"
    name      = "RotationsSucceeded-${var.name}"
    value     = "1"
  }
}

# No run has succeeded for 26 hours: a daily one failed, was refused, could not be started or was not scheduled. Two
# successes are up to 25 hours apart when the later one waits for a grace period of an hour.
resource "aws_cloudwatch_metric_alarm" "no_rotation" {
  count      = local.rotation
  depends_on = [aws_cloudwatch_log_metric_filter.rotation]

  alarm_name          = "${var.name}-snowflake-key-no-rotation"
  alarm_description   = "The daily rotation of the Snowflake key of ${var.name} has not succeeded for more than a day. The tasks go on with the key that they have. The last line of the rotation in the log group says why. If there is none, run it with the command in the output run_rotation, and see why its task stops."
  namespace           = "Snowkey"
  metric_name         = "RotationsSucceeded-${var.name}"
  statistic           = "Sum"
  period              = 3600
  evaluation_periods  = 26
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}
